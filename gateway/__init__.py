"""The program: what it knows, what it remembers, how people reach it, how it starts. Read `gateway.app` next."""

__version__ = "0.1.0"
