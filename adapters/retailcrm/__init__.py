"""RetailCRM: is notified of calls as they ring, end and are logged, and gets clients of chats, notes and orders. What it calls on
our side is listed as hooks.

Owns the `ADAPTER` value and nothing else. Read `codec.py` next: what is sent when, and what the answers mean.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact, plan_order
from adapters.retailcrm.callbacks import HOOKS
from adapters.retailcrm.client import RetailcrmClient, connect
from adapters.retailcrm.codec import plan
from adapters.retailcrm.modules import user_id
from adapters.retailcrm.settings import RetailcrmSettings
from adapters.retailcrm.summaries import plan_summary
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("retailcrm"),
    title="RetailCRM",
    type="crm",
    package=__name__,
    docs_url="https://docs.retailcrm.ru/",
    settings=RetailcrmSettings,
    connect=connect,
    client=RetailcrmClient,
    client_id_field="client_id",
    user_id=user_id,
    plan_call=plan,
    plan_summary=plan_summary,
    plan_contact=plan_contact,
    plan_chat=plan_chat,
    plan_order=plan_order,
    # A key may make 10 requests in any one second, and 40 more for telephony: one or two less, for what is late on its way.
    limits=Limits(rates={"": Rate(9), "telephony": Rate(38)}, at_once=8),
    account=lambda settings: account_key("retailcrm", settings.domain, settings.api_key),
    hooks=HOOKS,
)
