"""Scripted conversations, played with a model as clients are answered, and scored."""
