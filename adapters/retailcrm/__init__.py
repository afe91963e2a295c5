"""RetailCRM: is told of calls as they ring, end and are logged. What it calls on our side is listed as hooks.

Owns the `ADAPTER` value and nothing else. Read `codec.py` next: what is told when, and what the answers mean.
"""

from adapters.base import Adapter, Limits, Rate, SystemType
from adapters.retailcrm.callbacks import HOOKS
from adapters.retailcrm.client import RetailcrmClient, connect
from adapters.retailcrm.codec import plan
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("retailcrm"),
    title="RetailCRM",
    system=SystemType.CRM,
    package=__name__,
    docs_url="https://docs.retailcrm.ru/",
    settings=RetailcrmSettings,
    connect=connect,
    client=RetailcrmClient,
    client_id_field="client_id",
    extensions_field="user_extensions",
    plan=plan,
    # 10 requests a second, and 40 more for telephony. Burst and drip together stay below that in any one second.
    limits=Limits(rates={"": Rate(9, 1), "telephony": Rate(38, 2)}, at_once=8),
    hooks=HOOKS,
)
