"""What VK's answers mean."""

import json
from typing import Any

import pytest

from adapters.folder import read_folder
from adapters.vk import codec
from adapters.vk.codec import (
    Polled,
    attachment,
    chosen_events,
    read,
    read_polled,
    read_server,
    read_servers,
    read_upload,
)
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    RateLimited,
    Rejected,
    RemoteProtocolError,
    Unavailable,
)
from gateway.web.translations import words


def error(code: Any, **more: Any) -> bytes:
    params = [{"key": "access_token", "value": "canary-token"}]
    return json.dumps({"error": {"error_code": code, "error_msg": "words", "request_params": params, **more}}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [*((one, Unavailable) for one in (1, 9, 10)), *((one, RateLimited) for one in (6, 29)),
     *((one, BadCredentials) for one in (5, 27, 28, 1114)), *((one, BadSettings) for one in (7, 14, 15, 20, 23, 24, 203, 912, 2000)),
     *((one, Rejected) for one in (3, 8, 100, 113, 900, 901, 902, 911, 913, 914, 917, 921, 922, 925, 936, 940, 945, 946, 950, 969, 1012, 5000))],
)  # fmt: skip
def test_every_code_has_its_reaction(code: int, kind: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        read(200, error(code))
    assert type(raised.value) is kind
    assert raised.value.detail.startswith(f"{code}: ")
    assert "canary-token" not in f"{raised.value} {raised.value.person}"


def test_how_long_to_wait() -> None:
    def pause(code: int) -> float:
        with pytest.raises((Unavailable, RateLimited)) as raised:
            read(200, error(code))
        return float(raised.value.after_s or 0)

    assert pause(6) == 1
    assert pause(9) >= 600
    assert pause(29) >= 600


@pytest.mark.parametrize("code", ["5", None, True, [5]])
def test_a_code_that_is_no_number(code: Any) -> None:
    with pytest.raises(Rejected, match="0: words"):
        read(200, error(code))


@pytest.mark.parametrize(
    ("status", "raw", "kind", "certain"),
    [(200, b"", Unavailable, False), (200, b"<html>", Unavailable, False), (200, b"[]", Unavailable, False), (200, b"{}", Unavailable, False),
     (200, b'{"error": "x"}', Unavailable, False), (500, b"", Unavailable, True), (504, b"", Unavailable, False),
     (401, b"", BadCredentials, True), (413, b"", Rejected, True), (429, b"", RateLimited, True)],
)  # fmt: skip
def test_what_is_no_answer_of_vk(status: int, raw: bytes, kind: type[GatewayError], certain: bool) -> None:
    with pytest.raises(GatewayError) as raised:
        read(status, raw)
    assert type(raised.value) is kind
    assert getattr(raised.value, "certain", True) is certain


def test_a_response() -> None:
    assert read(200, b'{"response": 11}') == 11
    assert read(200, b'{"response": 0}') == 0


@pytest.mark.parametrize(
    ("answer", "polled"),
    [({"ts": "4", "updates": [{"type": "x"}]}, Polled(ts="4", updates=[{"type": "x"}])), ({"ts": 4, "updates": []}, Polled(ts="4", updates=[])),
     ({"failed": 1, "ts": 30}, Polled(ts="30", failed=1)), ({"failed": 2}, Polled(failed=2)), ({"failed": 3}, Polled(failed=3))],
)  # fmt: skip
def test_a_poll(answer: Any, polled: Polled) -> None:
    assert read_polled(200, json.dumps(answer).encode()) == polled


@pytest.mark.parametrize(
    "answer", [{}, [], {"ts": "4"}, {"updates": []}, {"failed": 1}, {"failed": 4, "min_version": 0}, {"ts": "x", "updates": []}, {"failed": True}]
)  # fmt: skip
def test_a_poll_that_is_none(answer: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        read_polled(200, json.dumps(answer).encode())


def test_a_server_to_poll() -> None:
    named = read_server({"server": "lp.vk.com/wh1", "key": "k", "ts": 7})
    assert (named.url, named.ts) == ("https://lp.vk.com/wh1", "7")
    assert "k" not in repr(named).replace("lp.vk.com", "").replace("key", "").partition("Server(")[2]
    for wrong in (
        None,
        {},
        {"server": "", "key": "k", "ts": "1"},
        {"server": "https://a", "key": "k"},
        {"server": 1, "key": "k", "ts": "1"},
    ):
        with pytest.raises(RemoteProtocolError):
            read_server(wrong)


@pytest.mark.parametrize(
    ("kind", "saved", "named"),
    [("photo", [{"id": 2, "owner_id": -1, "access_key": "k"}], "photo-1_2_k"), ("photo", [{"id": 2, "owner_id": -1}], "photo-1_2"),
     ("doc", {"type": "doc", "doc": {"id": 2, "owner_id": 1}}, "doc1_2"),
     ("doc", {"type": "audio_message", "audio_message": {"id": 2, "owner_id": 1, "access_key": "k"}}, "doc1_2_k")],
)  # fmt: skip
def test_a_saved_file(kind: str, saved: Any, named: str) -> None:
    assert attachment(kind, saved) == named


@pytest.mark.parametrize(
    ("kind", "saved"),
    [("photo", []), ("photo", {}), ("photo", [{"id": 2}]), ("doc", {}), ("doc", {"type": "doc"}), ("doc", None)],
)
def test_a_file_that_was_not_saved(kind: str, saved: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        attachment(kind, saved)


def test_an_upload() -> None:
    assert read_upload(200, b'{"server": 7, "photo": "[1]", "hash": "h", "more": []}') == {
        "server": "7",
        "photo": "[1]",
        "hash": "h",
    }
    with pytest.raises(Rejected, match="invalid extension"):
        read_upload(200, b'{"error": "unknown error", "error_descr": "invalid extension"}')
    with pytest.raises(Unavailable):
        read_upload(200, b"[]")


def test_callback_servers() -> None:
    (one,) = read_servers(
        {"items": [{"id": 3, "url": "https://a/", "secret_key": "canary", "status": "ok"}, "x", {"id": "4"}]}
    )
    assert (one.id, one.status) == (3, "ok")
    assert "canary" not in repr(one)
    assert read_servers(None) == []
    assert chosen_events({"events": {"message_new": 1, "message_edit": 0, "message_read": True}}) == {
        "message_new",
        "message_read",
    }
    assert chosen_events({}) == frozenset()


def test_what_refusals_mean_is_said_in_both_languages() -> None:
    said = {f"reason.{code}": text for table in (codec._SAID, codec._SETTINGS) for code, text in table.items()}
    texts = read_folder("adapters.vk").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == said
    for key, text in said.items():
        assert words("ru").detail(f"6: {text}") == f"6: {texts['ru'][key]}"
        assert words("en").detail(f"6: {text}") == f"6: {text}"
