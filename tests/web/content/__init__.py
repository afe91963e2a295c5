"""The operations on profile, catalog and prompts, on a real database."""
