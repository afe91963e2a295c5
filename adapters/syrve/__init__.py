"""Syrve: menu into the catalog, guests, delivery orders with their way, attention at the till. One name of the restaurant cloud.

Owns the `ADAPTER` value and nothing else. Read `adapters/till/__init__.py` next.
"""

from adapters.syrve.settings import SyrveSettings
from adapters.till import till_adapter

ADAPTER = till_adapter("syrve", "Syrve", __name__, "https://api-eu.syrve.live/docs", SyrveSettings)
