"""Envelope encryption: the master key, data keys, sealed values and files, key rotation."""
