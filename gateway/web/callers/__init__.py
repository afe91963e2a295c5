"""Who calls a machine address, what they may, and how often: API keys, tokens, sessions. Read `callers.py` first."""
