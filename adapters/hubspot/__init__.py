"""HubSpot: logs calls with contacts, owners, outcomes and recordings, makes tasks, contacts, notes of chats, deals of orders.

Owns the `ADAPTER` value and nothing else. Read `plan.py` next: what is sent when.

    settings.py  token or app             plan.py      events to drafts     client.py    deliveries and look-ups
    codec.py     answers, limits          requests.py  what is sent         account.py   with what, how fast
    schema.py    what is there            records.py   one call, one record contacts.py  whose number it is
    writing.py   making things once       clients.py   chats and orders     people.py    owners
    tested.py    the connection test      fields.py    for field mapping    login.py     connecting
    jobs.py      properties of ours
"""

from typing import Any

from adapters.apps import App, AppCredentials, OAuthApp
from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact
from adapters.hubspot.advice import advice
from adapters.hubspot.client import HubSpotClient, connect
from adapters.hubspot.codec import identifier
from adapters.hubspot.jobs import JOBS
from adapters.hubspot.login import open_login
from adapters.hubspot.plan import SEARCH, plan, plan_order, plan_summary
from adapters.hubspot.settings import HubSpotSettings
from adapters.login import Login
from gateway.domain.ids import Kind


def _user_id(text: str) -> str:
    """An owner's id as HubSpot counts them. Raises ValueError for anything else."""
    if not (found := identifier(text)):
        raise ValueError("is a number")
    return found


def _account(settings: HubSpotSettings) -> str:
    """HubSpot counts by app and account: a private app is in one account; of a connection both are known."""
    if settings.api_key is not None:
        return account_key("hubspot", settings.api_key)
    return account_key("hubspot", settings.client_id, settings.portal_id) if settings.portal_id else ""


def _missing(settings: HubSpotSettings, app: AppCredentials | None) -> str:
    own: Any = settings.client_id and settings.client_secret
    return "" if settings.api_key is not None or own or app is not None else "no_access"


ADAPTER = Adapter(
    kind=Kind("hubspot"),
    title="HubSpot",
    type="crm",
    package=__name__,
    docs_url="https://developers.hubspot.com/docs/api/overview",
    settings=HubSpotSettings,
    connect=connect,
    client=HubSpotClient,
    plan_call=plan,
    plan_contact=plan_contact,
    plan_chat=plan_chat,
    plan_order=plan_order,
    plan_summary=plan_summary,
    user_id=_user_id,
    app=App("hubspot", OAuthApp),
    login=Login(open=open_login),
    missing=_missing,
    jobs=JOBS,
    advice=advice,
    # The least that any plan has is 100 in any 10 seconds; searches count apart, 4 or 5 a second. Spread out, so that two
    # windows of ours that arrive closer together than they left are not too many in one of HubSpot's.
    limits=Limits(rates={"": Rate(9, 1.0), SEARCH: Rate(1, 0.25)}, at_once=6),
    account=_account,
)
