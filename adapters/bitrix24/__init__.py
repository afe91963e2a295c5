"""Bitrix24: registers calls as they ring, shows and moves their cards, ends them with recording and task; dials on a click.

Owns the `ADAPTER` value and nothing else. Read `plan.py` next: what is sent when.

    settings.py   webhook or application      plan.py      events to drafts       client.py   deliveries and look-ups
    codec.py      answers, batches            requests.py  what is sent           clients.py  whose number it is
    portal.py     where, with what, how fast  people.py    users and numbers      tested.py   the connection test
    incoming.py   events to us                login.py     connecting             jobs.py     binding events
    records.py    clients, notes, orders      fields.py    fields and stages      bindings.py events that are bound
"""

from urllib.parse import urlsplit

from adapters.apps import App, OAuthApp
from adapters.base import Adapter, Limits, Rate
from adapters.bitrix24.advice import advice
from adapters.bitrix24.client import Bitrix24Client, connect
from adapters.bitrix24.codec import identifier
from adapters.bitrix24.incoming import INBOUND
from adapters.bitrix24.jobs import JOBS
from adapters.bitrix24.login import open_login
from adapters.bitrix24.plan import plan, plan_summary
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact, plan_order
from adapters.login import Login
from gateway.domain.ids import Kind


def _user_id(text: str) -> str:
    """An id as the portal counts its users. Raises ValueError for anything else."""
    if not (found := identifier(text)):
        raise ValueError("is a number")
    return found


ADAPTER = Adapter(
    kind=Kind("bitrix24"),
    title="Bitrix24",
    type="crm",
    package=__name__,
    docs_url="https://dev.1c-bitrix.ru/rest_help",
    settings=Bitrix24Settings,
    connect=connect,
    client=Bitrix24Client,
    plan_call=plan,
    plan_summary=plan_summary,
    plan_contact=plan_contact,
    plan_chat=plan_chat,
    plan_order=plan_order,
    user_id=_user_id,
    hook_id_field="hook_id",
    inbound=INBOUND,
    app=App("bitrix24", OAuthApp),
    login=Login(open=open_login),
    jobs=JOBS,
    advice=advice,
    # A portal counts by our address: a bucket of 50 that drains 2 a second. 40 in any 20 seconds never fill it.
    limits=Limits(rates={"": Rate(40, 20.0)}, at_once=6),
    # By the portal alone: whoever names it here sends from the address that the portal counts by.
    account=lambda settings: account_key("bitrix24", urlsplit(settings.origin).netloc.lower()),
)
