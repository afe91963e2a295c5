"""Which updates of a bot are ours, and whose webhooks are genuine."""

import json
from typing import Any

import pytest

from adapters.inbound import WebhookCall
from adapters.telegram.incoming import INBOUND, next_offset, polls, read, updates, verify, webhook_secret
from adapters.telegram.settings import TelegramSettings

TOKEN = "700100200:AAEhBP0av28abcdefghijklmnopqrstuvwx"


def settings(**more: Any) -> TelegramSettings:
    values = {"bot_token": TOKEN, "hook_id": "h" * 43, "chat": True, "updates": "webhook", **more}
    return TelegramSettings.model_validate(values)


def update(number: Any = 7, kind: str = "message", chat: str = "private", **more: Any) -> dict[str, Any]:
    message = {"message_id": 1, "date": 0, "chat": {"id": 5, "type": chat}, "text": "Здравствуйте", **more}
    return {"update_id": number, kind: message}


def call(body: Any, secret: str | None = None, method: str = "POST") -> WebhookCall:
    headers = {"x-telegram-bot-api-secret-token": secret} if secret is not None else {}
    return WebhookCall(
        method=method, headers=headers, body=body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def test_a_genuine_webhook() -> None:
    ours = settings()
    assert verify(call(update(), webhook_secret(ours)), ours) is None
    (found,) = read(json.dumps(update()).encode(), ours)
    assert (found.id, found.body["message"]["text"]) == ("7", "Здравствуйте")


@pytest.mark.parametrize("secret", [None, "", "x", "ключ", webhook_secret(settings(hook_id="i" * 43)), "\udcff"])
def test_a_webhook_of_somebody_else(secret: str | None) -> None:
    reply = verify(call(update(), secret), settings())
    assert reply is not None
    assert reply.status == 403


def test_a_secret_follows_token_and_hook() -> None:
    known = {
        webhook_secret(settings()),
        webhook_secret(settings(hook_id="i" * 43)),
        webhook_secret(settings(bot_token=TOKEN + "y")),
    }
    assert len(known) == 3
    assert all(0 < len(secret) <= 256 and secret.isalnum() for secret in known)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b"\xff", b'{"update_id": "7"}', b'{"update_id": true}', b"[" * 100_000]
)
def test_what_is_no_update(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body, settings())


def test_groups_and_other_updates_are_left_alone() -> None:
    sent = [update(1), update(2, chat="group"), update(3, chat="supergroup"), update(4, kind="channel_post", chat="channel"),
            update(5, kind="edited_message"), {"update_id": 6, "message": None}, {"update_id": 8, "poll": {}}, "x", None,
            {"update_id": -1, "message": {}}]  # fmt: skip
    assert [one.id for one in updates(sent)] == ["1", "5"]
    assert next_offset(sent, 0) == 9, "what is left out is confirmed too"
    assert next_offset([], 9) == 9


@pytest.mark.parametrize(
    ("chat", "how", "reads", "takes"),
    [
        (True, "poll", True, False),
        (True, "webhook", False, True),
        (False, "poll", False, False),
        (False, "webhook", False, False),
    ],
)
def test_one_way_at_a_time(chat: bool, how: str, reads: bool, takes: bool) -> None:
    ours = settings(chat=chat, updates=how)
    assert (polls(ours), INBOUND.accepts(ours)) == (reads, takes)
