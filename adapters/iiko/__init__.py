"""iiko: menu into the catalog, guests, delivery orders with their way, attention at the till. One name of the restaurant cloud.

Owns the `ADAPTER` value and nothing else. Read `adapters/till/__init__.py` next.
"""

from adapters.iiko.settings import IikoSettings
from adapters.till import till_adapter

ADAPTER = till_adapter("iiko", "iiko", __name__, "https://api-ru.iiko.services/docs", IikoSettings)
