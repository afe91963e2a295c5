"""The program: domain, store, web pages and API, commands, start. Read `gateway.app` next."""

__version__ = "0.1.0"
