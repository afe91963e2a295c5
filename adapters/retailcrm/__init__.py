"""RetailCRM: is told of calls as they ring, end and are logged. What it calls on our side is listed as hooks.

Owns the `ADAPTER` value and nothing else. Read `codec.py` next: what is told when, and what the answers mean.
"""

from adapters.base import Adapter, Hook, Limits, Rate
from adapters.retailcrm.callbacks import read_activity, read_call, read_responsible, read_status
from adapters.retailcrm.client import RetailcrmClient, connect
from adapters.retailcrm.codec import plan
from adapters.retailcrm.modules import ACTIVITY, MAKE_CALL, REDIRECT, STATUS
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("retailcrm"),
    title="RetailCRM",
    settings=RetailcrmSettings,
    connect=connect,
    client=RetailcrmClient,
    client_id_field="client_id",
    extensions_field="user_extensions",
    plan=plan,
    # 10 requests a second, and 40 more for telephony. Burst and drip together stay below that in any one second.
    limits=Limits(rates={"": Rate(9, 1), "telephony": Rate(38, 2)}, at_once=8),
    hooks=(
        Hook(MAKE_CALL, ("GET", "POST"), "Click-to-call: connect a user with a number", read_call),
        Hook(STATUS, ("GET", "POST"), "A user is free, busy, at dinner or on a break", read_status),
        Hook(REDIRECT, ("POST",), "Who is responsible for a caller", read_responsible),
        Hook(ACTIVITY, ("POST",), "The module was switched on or off", read_activity),
    ),
)
