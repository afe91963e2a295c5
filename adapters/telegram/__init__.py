"""Telegram bots: a card for every call in the chats that want one, edited as the call goes on; and chats with people who write.

Owns the `ADAPTER` value and nothing else. What people write to the bot comes in through `incoming.py` and is read by `chats.py`.
Read `codec.py` next.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.telegram.chats import CHANNEL
from adapters.telegram.client import TelegramClient, connect
from adapters.telegram.codec import plan, plan_start
from adapters.telegram.incoming import INBOUND, polls
from adapters.telegram.jobs import JOBS
from adapters.telegram.notice import notice
from adapters.telegram.settings import TelegramSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("telegram"),
    title="Telegram",
    type="channel",
    package=__name__,
    docs_url="https://core.telegram.org/bots",
    settings=TelegramSettings,
    connect=connect,
    client=TelegramClient,
    plan_call=plan,
    plan_start=plan_start,
    hook_id_field="hook_id",
    chat=CHANNEL,
    inbound=INBOUND,
    streams=polls,
    jobs=JOBS,
    notice=notice,
    limits=Limits(rates={"": Rate(30), "chat": Rate(3, 3.0), "group": Rate(20, 60.0)}, at_once=8),
    account=lambda settings: account_key("telegram", settings.bot_token),
)
