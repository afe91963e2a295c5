"""Viber bots: people write to the bot, and the company answers.

Owns the `ADAPTER` value and nothing else. What people write comes in through `incoming.py` and is read by `chats.py`; what answers
mean is in `codec.py`. Read `chats.py` next.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.viber.chats import CHANNEL
from adapters.viber.client import ViberClient, connect
from adapters.viber.incoming import INBOUND
from adapters.viber.jobs import JOBS
from adapters.viber.settings import ViberSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("viber"),
    title="Viber",
    type="channel",
    package=__name__,
    docs_url="https://developers.viber.com/docs/api/rest-bot-api/",
    settings=ViberSettings,
    connect=connect,
    client=ViberClient,
    hook_id_field="hook_id",
    chat=CHANNEL,
    inbound=INBOUND,
    jobs=JOBS,
    limits=Limits(rates={"": Rate(40)}, at_once=8),
    account=lambda settings: account_key("viber", settings.auth_token),
)
