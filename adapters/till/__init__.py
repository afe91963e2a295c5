"""The restaurant cloud that is sold under two names: what both have in common. The adapters of the names give host, words and icon.

    settings.py   logins, place          plan.py     events to drafts       client.py   deliveries
    codec.py      what answers mean      cloud.py    tokens, pace           guests.py   whose number it is
    menu.py       menu, stop-lists       orders.py   an order as it is sent refusals.py what a person has to do
    incoming.py   webhooks to us         login.py    choosing the place     jobs.py     menu, stop-lists, webhook
    tested.py     the connection test    advice.py   what is entered there

There is no telephony in it: of a call it can be sent an attention at the till, and no more. Read `plan.py` next.
"""

from collections.abc import Callable, Mapping, Sequence

from adapters.base import Adapter, Advice, Limits, Rate
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact
from adapters.login import Login
from adapters.till.advice import advice
from adapters.till.client import TillClient, connect
from adapters.till.incoming import INBOUND
from adapters.till.jobs import JOBS
from adapters.till.login import open_login
from adapters.till.plan import plan_call, plan_order
from adapters.till.settings import TillSettings
from gateway.domain.ids import Kind

GROUPS: Mapping[str, Rate] = {
    "": Rate(20, 1.0), "token": Rate(5, 60.0), "dictionaries": Rate(20, 60.0), "menu": Rate(10, 60.0), "stop_lists": Rate(10, 60.0),
    "guests": Rate(120, 60.0), "orders": Rate(60, 60.0), "commands": Rate(120, 60.0), "notifications": Rate(30, 60.0),
    "webhooks": Rate(10, 60.0),
}  # fmt: skip
"""Requests of each restriction group. The provider counts by group and publishes no numbers: these are careful ones, and whatever it
refuses pauses the group (`TillSettings.pause_s`)."""


def till_adapter(kind: str, title: str, package: str, docs_url: str, settings: type[TillSettings]) -> Adapter:
    """The adapter of one name."""
    told: Callable[[TillSettings | None], Sequence[Advice]] = advice
    return Adapter(
        kind=Kind(kind), title=title, type="crm", package=package, docs_url=docs_url, settings=settings, connect=connect,
        client=TillClient, plan_call=plan_call, plan_contact=plan_contact, plan_chat=plan_chat, plan_order=plan_order,
        hook_id_field="hook_id", inbound=INBOUND, login=Login(open=open_login), jobs=JOBS,
        advice=told, limits=Limits(rates=GROUPS, at_once=6),
        # By the login: whoever has it is counted with all others that have it.
        account=lambda given: account_key(kind, given.origin, *(given.key or (given.api_login or "",))),
        missing=lambda given, app: "" if given.organization_id else "no_organization",
    )  # fmt: skip
