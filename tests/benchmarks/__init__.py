"""`make bench`: each benchmark is one module here; read `__main__.py` for the list and `harness.py` for the rounds."""
