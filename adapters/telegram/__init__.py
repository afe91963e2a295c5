"""Telegram bots: a card for every call in the chats that want one, edited as the call goes on.

Owns the `ADAPTER` value and nothing else. What people write to the bot would arrive through an ability of its own beside
`deliver`, and be listed under `hooks`. Read `codec.py` next.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.telegram.client import TelegramClient, connect
from adapters.telegram.codec import plan
from adapters.telegram.settings import TelegramSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("telegram"),
    title="Telegram",
    settings=TelegramSettings,
    connect=connect,
    client=TelegramClient,
    plan=plan,
    limits=Limits(rates={"": Rate(30), "chat": Rate(3, 3.0), "group": Rate(20, 60.0)}, at_once=8),
    account=lambda settings: account_key("telegram", settings.bot_token),
)
