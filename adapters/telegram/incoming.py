"""What people write to a bot, by webhook or long poll: who may call us, and which updates are ours. Pure.

A bot that answers people leaves groups alone: only private chats become updates. The webhook's secret is derived from the
hook id and the token, so it changes with either and is stored nowhere. Source: Bot API, "Getting updates", "setWebhook".
Read `client.py` for the poll.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.inbound import Inbound, Reply, Update, WebhookCall
from adapters.telegram.settings import TelegramSettings

ALLOWED = ("message", "edited_message", "my_chat_member")
POLL_S = 25
"""Seconds for which Telegram holds a poll without updates; it allows 50."""
MOST = 100
"""Updates in one answer, Telegram's own limit."""
_MESSAGES = frozenset(ALLOWED)
_SIGNED_BY = "x-telegram-bot-api-secret-token"


def webhook_secret(settings: TelegramSettings) -> str:
    """What Telegram is to send back with each webhook: 64 of the characters it allows."""
    key = settings.hook_id.reveal().encode()
    return hmac.new(key, settings.bot_token.reveal().encode(), hashlib.sha256).hexdigest()


def verify(call: WebhookCall, settings: TelegramSettings) -> Reply | None:
    """None for a genuine webhook."""
    if call.method != "POST":
        return Reply(405)
    sent = call.headers.get(_SIGNED_BY, "")
    genuine = hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), webhook_secret(settings).encode())
    return None if genuine else Reply(403)


def read(body: bytes, settings: TelegramSettings) -> Sequence[Update]:
    """The one update of a webhook, if it is ours. Raises ValueError for what is none."""
    try:
        sent = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(sent, dict) or not _is_id(sent.get("update_id")):
        raise ValueError("not an update")
    return updates([sent])


def updates(sent: Sequence[Any]) -> Sequence[Update]:
    """What people wrote in private, of raw updates in their order; all else is left out."""
    return tuple(Update(str(one["update_id"]), one) for one in sent if isinstance(one, dict) and _is_ours(one))


def next_offset(sent: Sequence[Any], offset: int) -> int:
    """What confirms these updates at the next poll, those that are not ours too."""
    ids = [one["update_id"] for one in sent if isinstance(one, dict) and _is_id(one.get("update_id"))]
    return max([offset, *(int(number) + 1 for number in ids)])


def _is_ours(update: Mapping[str, Any]) -> bool:
    if not _is_id(update.get("update_id")):
        return False
    message = next((update[name] for name in update if name in _MESSAGES), None)
    chat = message.get("chat") if isinstance(message, Mapping) else None
    return isinstance(chat, Mapping) and chat.get("type") == "private"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def polls(settings: TelegramSettings) -> bool:
    """Whether the client reads updates by itself."""
    return settings.chat and settings.updates == "poll"


INBOUND = Inbound(verify=verify, read=read, accepts=lambda settings: settings.chat and settings.updates == "webhook")
