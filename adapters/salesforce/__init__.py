"""Salesforce: calls as tasks with client, owner, result and recording; leads or contacts of unknown numbers; a softphone frame.

Owns the `ADAPTER` value and nothing else. Read `plan.py` next: what is sent when.

    settings.py  organisation and app         plan.py     events to drafts         client.py   deliveries and look-ups
    codec.py     answers, query languages     requests.py what is sent             clients.py  whose number it is
    access.py    signing in                   org.py      where, with what         people.py   users and numbers
    tested.py    the connection test          login.py    connecting by a person   jobs.py     the day's requests
    records.py   clients of chats, notes, orders   records_requests.py   what is sent of them
    frame.py     whose pages may hold the softphone, softphone.js how it speaks with them
"""

from urllib.parse import urlsplit

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.crm_drafts import plan_chat, plan_contact, plan_order
from adapters.login import Login
from adapters.salesforce.advice import advice
from adapters.salesforce.client import SalesforceClient, connect
from adapters.salesforce.codec import identifier
from adapters.salesforce.frame import softphone
from adapters.salesforce.jobs import JOBS
from adapters.salesforce.login import open_login
from adapters.salesforce.plan import plan
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.ids import Kind


def _user_id(text: str) -> str:
    """An id as the organisation has it: 005 and 12 or 15 letters and digits. Raises ValueError for anything else."""
    if not (found := identifier(text)).startswith("005"):
        raise ValueError("begins with 005 and has 15 or 18 letters and digits")
    return found


ADAPTER = Adapter(
    kind=Kind("salesforce"),
    title="Salesforce",
    type="crm",
    package=__name__,
    docs_url="https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/",
    settings=SalesforceSettings,
    connect=connect,
    client=SalesforceClient,
    plan_call=plan,
    plan_contact=plan_contact,
    plan_chat=plan_chat,
    plan_order=plan_order,
    user_id=_user_id,
    hook_id_field="hook_id",
    frame=softphone,
    login=Login(open=open_login),
    jobs=JOBS,
    advice=advice,
    # A day's requests are counted, and those that last: at most 5 of them at once in the smallest organisations.
    limits=Limits(rates={"": Rate(25, 1.0)}, at_once=5),
    account=lambda settings: account_key("salesforce", urlsplit(settings.instance_url).netloc.lower()),
)
