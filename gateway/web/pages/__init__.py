"""The pages, one module a subject; each gives a blueprint. Read `calls.py` first."""
