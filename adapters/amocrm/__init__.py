"""amoCRM and Kommo: card of a ringing call, calls with results and recordings, unknown numbers to incoming leads, tasks.

Owns the `ADAPTER` value and nothing else. Read `plan.py` next: what is sent when.

    settings.py   token or application      plan.py      events to drafts       client.py   deliveries and look-ups
    codec.py      answers, refusals         requests.py  what is sent           calls.py    one call, one record
    account.py    where, with what          clients.py   whose number it is     people.py   users and numbers
    records.py    clients, chats, orders    fields.py    field mapping          tested.py   the connection test
    login.py      connecting                jobs.py      staying connected
"""

from adapters.amocrm.advice import advice
from adapters.amocrm.client import AmoClient, connect
from adapters.amocrm.codec import identifier
from adapters.amocrm.jobs import JOBS
from adapters.amocrm.login import open_login
from adapters.amocrm.plan import CALLS, plan, plan_summary
from adapters.amocrm.settings import AmoSettings
from adapters.apps import App, OAuthApp
from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact, plan_order
from adapters.login import Login
from gateway.domain.ids import Kind


def _user_id(text: str) -> str:
    """An id as the account counts its users. Raises ValueError for anything else."""
    if not (found := identifier(text)):
        raise ValueError("is a number")
    return found


ADAPTER = Adapter(
    kind=Kind("amocrm"),
    title="amoCRM",
    type="crm",
    package=__name__,
    docs_url="https://www.amocrm.ru/developers",
    settings=AmoSettings,
    connect=connect,
    client=AmoClient,
    plan_call=plan,
    plan_contact=plan_contact,
    plan_chat=plan_chat,
    plan_order=plan_order,
    plan_summary=plan_summary,
    user_id=_user_id,
    app=App("amocrm", OAuthApp),
    login=Login(open=open_login),
    jobs=JOBS,
    advice=advice,
    # 7 requests in any second, and a fifth of it for the way there: they may arrive closer than they left. Calls share requests of 50, so their own bucket is 50 times as wide:
    # what is really sent is charged to the first as it leaves.
    limits=Limits(rates={"": Rate(7, 1.2), CALLS: Rate(350, 1.2)}, at_once=50),
    # By the account alone: persistent excess blocks the address that all of us send from.
    account=lambda settings: account_key("amocrm", settings.host),
)
