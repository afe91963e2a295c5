"""Whose webhooks are genuine, and which updates they hold."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from adapters.apps import MetaApp
from adapters.inbound import WebhookCall
from adapters.instagram.incoming import INBOUND, accounts, read, verify, verify_app
from gateway.domain.secret import Secret
from tests.adapters.instagram.settings_of import ACCOUNT, SECRET, VERIFY, settings

ANN = "99001"
APP = MetaApp.model_validate({"app_id": "1", "app_secret": "of-the-app", "verify_token": "of-the-app-too"})


def item(at: int = 1_767_225_600_001, **what: Any) -> dict[str, Any]:
    return {"sender": {"id": ANN}, "recipient": {"id": ACCOUNT}, "timestamp": at, **what}


def webhook(*items: Any, account: str = ACCOUNT, under: str = "messaging") -> bytes:
    entry = {"id": account, "time": 1_767_225_600_123, under: list(items)}
    return json.dumps({"object": "instagram", "entry": [entry]}).encode()


def signed(body: bytes, secret: str = SECRET, *, sign: str | None = None) -> WebhookCall:
    digest = sign if sign is not None else "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return WebhookCall(method="POST", headers={"x-hub-signature-256": digest}, body=body)


def status(call: WebhookCall, **more: Any) -> int | None:
    reply = verify(call, settings(**more))
    return None if reply is None else reply.status


def shake(**query: str) -> WebhookCall:
    asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1158201444"}
    return WebhookCall(method="GET", query={**asked, **{f"hub.{name}": value for name, value in query.items()}})


def test_the_handshake() -> None:
    reply = verify(shake(), settings())
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"1158201444")


@pytest.mark.parametrize("call", [shake(verify_token="other"), shake(verify_token=""), shake(mode="unsubscribe"), shake(challenge=""),
                                  shake(challenge="<script>\n"), WebhookCall(method="GET")])  # fmt: skip
def test_a_handshake_of_somebody_else(call: WebhookCall) -> None:
    assert status(call) == 403


def test_without_a_verify_token_nobody_shakes_hands() -> None:
    assert status(shake(verify_token=""), webhook_verify_token="") == 403


def test_a_genuine_webhook_is_signed_over_its_raw_bytes() -> None:
    body = webhook(item(message={"mid": "m", "text": "Привет"}))
    assert b"\\u" in body, "Meta escapes"
    assert status(signed(body)) is None
    plain = json.dumps(json.loads(body), ensure_ascii=False).encode()
    assert status(WebhookCall(method="POST", headers=signed(body).headers, body=plain)) == 403
    assert status(signed(body.replace(b"\\u041f", b"\\u0411"), sign=signed(body).headers["x-hub-signature-256"])) == 403


@pytest.mark.parametrize("sign", ["", "sha256=", "sha256=" + "0" * 64, "0" * 64, "подпись", "\udcff"])
def test_a_forged_webhook(sign: str) -> None:
    assert status(signed(b"{}", sign=sign)) == 403
    assert status(WebhookCall(method="POST", body=b"{}")) == 403
    assert status(signed(b"{}", "another")) == 403


def test_without_a_secret_nothing_is_genuine() -> None:
    assert status(signed(b"{}", ""), app_secret="") == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods(method: str) -> None:
    assert status(WebhookCall(method=method)) == 405


def test_the_installation_s_application_signs_with_either_of_its_secrets() -> None:
    body = webhook(item(message={"mid": "m", "text": "hi"}))
    both = APP.model_copy(update={"direct_app_secret": Secret("of-instagram")})
    assert verify_app(signed(body, "of-the-app"), APP) is None
    assert verify_app(signed(body, "of-the-app"), both) is None
    assert verify_app(signed(body, "of-instagram"), both) is None
    for app, secret in ((APP, "of-instagram"), (both, "else"), (None, "of-the-app")):
        reply = verify_app(signed(body, secret), app)
        assert reply is not None
        assert reply.status == 403
    hello = verify_app(shake(verify_token="of-the-app-too"), both)
    assert hello is not None
    assert hello.body == b"1158201444"


def ids(*items: Any) -> list[str]:
    return [update.id for update in read(webhook(*items), settings())]


def test_every_item_is_an_update_of_its_own() -> None:
    said, gone = item(message={"mid": "m1", "text": "hi"}), item(message={"mid": "m1", "is_deleted": True})
    seen, edited = item(read={"mid": "m1"}), item(message_edit={"mid": "m1", "text": "hello", "num_edit": 1})
    liked = item(reaction={"mid": "m1", "action": "react", "emoji": "❤"})
    found = ids(
        said, gone, seen, edited, liked, item(postback={"mid": "m2", "title": "Prices"}), item(referral={"ref": "ad"})
    )
    assert found[:3] == ["m1", "m1:deleted", "m1:read"]
    assert "m2" in found
    assert len(set(found)) == 7
    assert ids(said, gone, seen, edited, liked) == found[:5], "a repeat is known by its id"


def test_an_item_of_another_time_or_emoji_is_another() -> None:
    one, two, three = (
        item(reaction={"mid": "m", "action": "react", "emoji": "❤"}), item(reaction={"mid": "m", "action": "react", "emoji": "👍"}),
        item(1_767_225_601_000, reaction={"mid": "m", "action": "react", "emoji": "❤"}),
    )  # fmt: skip
    assert len(set(ids(one, two, three))) == 3


def test_a_webhook_that_is_out_of_order_is_put_right() -> None:
    late, early = item(1_767_225_609_000, message={"mid": "b"}), item(1_767_225_601_000, message={"mid": "a"})
    assert ids(late, early) == ["a", "b"]


def test_only_our_account_s_news_are_ours() -> None:
    said = item(message={"mid": "m", "text": "hi"})
    assert read(webhook(said, account="17841400000000001"), settings()) == []
    assert len(read(webhook(said), settings())) == 1


def test_what_another_application_answers_is_left_alone() -> None:
    assert read(webhook(item(message={"mid": "m", "text": "hi"}), under="standby"), settings()) == []


@pytest.mark.parametrize(
    "body",
    [
        {"object": "instagram", "entry": [{"id": "0", "time": 1, "changes": [{"field": "messages", "value": {"sender": {"id": "12334"}}}]}]},
        {"object": "instagram", "entry": [{"id": ACCOUNT, "changes": [{"field": "comments", "value": {"text": "nice"}}]}]},
        {"object": "page", "entry": [{"id": "1", "messaging": [{"sender": {"id": "2"}, "message": {"mid": "m"}}]}]},
        {"object": "instagram"}, {"object": "instagram", "entry": "no"}, {"object": "instagram", "entry": [7, None, "x"]},
        {"object": "instagram", "entry": [{"id": ACCOUNT, "messaging": [7, None, {}, {"optin": {}}, {"message": "no"}]}]},
    ],
)  # fmt: skip
def test_what_holds_nothing_is_accepted(body: Any) -> None:
    raw = json.dumps(body).encode()
    assert read(raw, settings()) == []
    assert accounts(raw) == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"object": "user", "entry": []}',
                                  webhook(item(message={"mid": "m"}))[:-9]])  # fmt: skip
def test_what_is_no_webhook_of_instagram(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body, settings())
    with pytest.raises(ValueError):
        accounts(body)


def test_a_bad_item_holds_up_no_other() -> None:
    bad = {"message": {"text": "of nobody"}}
    found = read(webhook(bad, item(message={"mid": "m", "text": "hi"})), settings())
    assert [update.id for update in found][1] == "m"
    assert found[0].id.startswith("digest:")


def test_a_shared_webhook_is_divided_by_account() -> None:
    body = {"object": "instagram", "entry": [
        {"id": ACCOUNT, "messaging": [item(message={"mid": "a"})]}, {"id": "2", "messaging": [item(message={"mid": "b"})]},
        {"id": ACCOUNT, "messaging": [item(message={"mid": "c"})]}, {"id": "3", "standby": [item(message={"mid": "d"})]},
    ]}  # fmt: skip
    parts = accounts(json.dumps(body).encode())
    assert set(parts) == {ACCOUNT, "2"}
    assert [update.id for update in read(parts[ACCOUNT], settings())] == ["a", "c"]
    assert INBOUND.shared is not None


def test_a_thousand_items_are_read_in_their_order() -> None:
    many = [item(1_767_225_600_000 + n, message={"mid": f"m{n}", "text": "x" * 500}) for n in range(1000)]
    assert ids(*many) == [f"m{n}" for n in range(1000)]
