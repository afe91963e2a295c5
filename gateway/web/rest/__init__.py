"""`/api/v1`: what the pages can do, for programs. Read `endpoints.py` first, then `keys.py` for a resource."""
