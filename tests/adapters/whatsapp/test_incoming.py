"""Which webhooks of Meta are genuine, whose they are, and the updates in them."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from adapters.apps import MetaApp
from adapters.inbound import WebhookCall
from adapters.whatsapp.incoming import INBOUND, accounts, read, verify
from adapters.whatsapp.settings import WhatsappSettings
from tests.sandbox.whatsapp import Whatsapp

APP = MetaApp.model_validate(
    {"app_id": "1234", "app_secret": "sandbox-app-secret", "verify_token": "of-the-installation"}
)


def settings(**more: Any) -> WhatsappSettings:
    values = {
        "phone_number_id": "106540352242922", "access_token": "EAAG-sandbox-token", "waba_id": "102290129340398",
        "app_secret": "sandbox-app-secret", "webhook_verify_token": "our-own-token", "hook_id": "h" * 43, **more,
    }  # fmt: skip
    return WhatsappSettings.model_validate(values)


def post(body: bytes, signature: str | None) -> WebhookCall:
    return WebhookCall(
        method="POST", headers={} if signature is None else {"x-hub-signature-256": signature}, body=body
    )


def handshake(**query: str) -> WebhookCall:
    whole = {"hub.mode": "subscribe", "hub.verify_token": "our-own-token", "hub.challenge": "1158201444"}
    return WebhookCall(
        method="GET", query={**whole, **{name.replace("_", ".", 1): value for name, value in query.items()}}
    )


def test_the_handshake_answers_with_the_challenge_alone() -> None:
    reply = verify(handshake(), settings())
    assert reply is not None
    assert (reply.status, reply.body, reply.content_type) == (200, b"1158201444", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "query",
    [{"hub_verify_token": "another"}, {"hub_verify_token": ""}, {"hub_verify_token": "\udcff"}, {"hub_mode": "unsubscribe"},
     {"hub_challenge": ""}, {"hub_challenge": "<script>alert(1)</script>\n"}, {"hub_challenge": "1" * 300}],
)  # fmt: skip
def test_another_handshake_is_refused(query: Mapping[str, str]) -> None:
    reply = verify(handshake(**query), settings())
    assert reply is not None
    assert (reply.status, reply.body) == (403, b"")


def test_no_handshake_without_a_token_of_ours() -> None:
    reply = verify(handshake(hub_verify_token=""), settings(webhook_verify_token=""))
    assert reply is not None
    assert reply.status == 403


def test_a_signature_is_over_the_raw_bytes() -> None:
    whatsapp = Whatsapp()
    whatsapp.writes("375291002001", "Здравствуйте 👋")
    (webhook,) = whatsapp.webhooks
    assert b"\\u0417" in webhook.body, "as Meta writes it"
    assert verify(post(webhook.body, webhook.signature), settings()) is None
    again = json.dumps(json.loads(webhook.body), ensure_ascii=False).encode()
    refused = verify(post(again, webhook.signature), settings())
    assert refused is not None
    assert refused.status == 403


@pytest.mark.parametrize("signature", [None, "", "sha256=", "sha256=00", "sha1=00", "ключ", "\udcff"])
def test_a_forged_webhook(signature: str | None) -> None:
    reply = verify(post(b"{}", signature), settings())
    assert reply is not None
    assert reply.status == 403


def test_a_webhook_cut_on_its_way_or_signed_by_another_app() -> None:
    webhook = Whatsapp().push({"messages": []})
    other = Whatsapp(app_secret="another").push({"messages": []})
    for call in (post(webhook.body[:-1], webhook.signature), post(other.body, other.signature)):
        reply = verify(call, settings())
        assert reply is not None
        assert reply.status == 403


def test_without_an_app_secret_nothing_is_taken() -> None:
    empty = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    reply = verify(post(b"{}", f"sha256={empty}"), settings(app_secret=""))
    assert reply is not None
    assert reply.status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
def test_other_methods(method: str) -> None:
    reply = verify(WebhookCall(method=method), settings())
    assert reply is not None
    assert reply.status == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b"\xff", b'{"object": "instagram", "entry": []}', b'{"object": {}}', b"[" * 100_000,
     b'{"object": "whatsapp_business_account"' + b', "x": {' * 50_000],
)  # fmt: skip
def test_what_is_no_webhook(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body, settings())


def test_each_message_and_status_is_an_update_of_its_own() -> None:
    whatsapp = Whatsapp()
    whatsapp.push(
        {"contacts": [{"wa_id": "1", "profile": {"name": "A"}}, {"wa_id": "2", "profile": {"name": "B"}}],
         "messages": [{"id": "wamid.1", "from": "2"}, {"id": "wamid.2", "from": "1"}, "x", None]},
        {"statuses": [{"id": "wamid.3", "status": "sent"}, {"id": "wamid.3", "status": "read"}]},
    )  # fmt: skip
    found = read(whatsapp.webhooks[0].body, settings())
    assert [one.id for one in found] == ["wamid.1", "wamid.2", "wamid.3:sent", "wamid.3:read"]
    assert [one.body["contact"].get("profile", {}).get("name") for one in found] == ["B", "A", None, None]


def test_an_item_without_an_id_has_one_that_repeats_with_it() -> None:
    item = {"type": "system", "timestamp": "1", "system": {"type": "user_changed_user_id"}}
    first, again = (read(Whatsapp().push({"messages": [item]}).body, settings())[0].id for _ in range(2))
    other = read(Whatsapp().push({"messages": [{**item, "timestamp": "2"}]}).body, settings())[0].id
    assert first == again != other


def test_groups_and_other_fields_are_left_alone() -> None:
    whatsapp = Whatsapp()
    whatsapp.push({"messages": [{"id": "wamid.1", "from": "1", "group_id": "7"}]})
    whatsapp.push({"event": "APPROVED"}, field="message_template_status_update")
    assert [read(one.body, settings()) for one in whatsapp.webhooks] == [[], []]


def test_only_our_number_is_ours_and_each_gets_its_part() -> None:
    mine, theirs = Whatsapp(), Whatsapp(number_id="999")
    mine.writes("1", "a")
    theirs.writes("2", "b")
    changes = [json.loads(one.webhooks[0].body)["entry"][0]["changes"][0] for one in (mine, theirs, mine)]
    body = json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"changes": changes[:2]}, {"changes": changes[2:]}]}
    ).encode()
    assert [one.body["item"]["text"]["body"] for one in read(body, settings())] == ["a", "a"]
    parts = accounts(body)
    assert set(parts) == {"106540352242922", "999"}
    assert len(read(parts["106540352242922"], settings())) == 2
    assert len(read(parts["999"], settings(phone_number_id="999"))) == 1


def test_the_installations_application_verifies_for_all() -> None:
    assert INBOUND.shared is not None
    webhook = Whatsapp().push({"messages": []})
    assert INBOUND.shared.verify(post(webhook.body, webhook.signature), APP) is None
    refused = INBOUND.shared.verify(post(webhook.body, "sha256=00"), APP)
    assert refused is not None
    assert refused.status == 403
    reply = INBOUND.shared.verify(handshake(hub_verify_token="of-the-installation"), APP)
    assert reply is not None
    assert reply.body == b"1158201444"
