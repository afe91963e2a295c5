"""What answers mean, and what a part of a message is sent as."""

import json
from typing import Any

import pytest

from adapters.channel import Outgoing, OutgoingFile, parts_of
from adapters.folder import read_folder
from adapters.viber import codec
from adapters.viber.chats import CAPABILITIES, LARGEST_PICTURE, LONGEST_PAYLOAD, payload
from adapters.viber.codec import message_token, read
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.web.translations import words
from tests.adapters.viber.settings_of import settings

MEDIA = "https://gw.example/files/1"


def answer(status: Any, **more: Any) -> bytes:
    return json.dumps({"status": status, "status_message": "words", **more}).encode()


@pytest.mark.parametrize(
    ("status", "error"),
    [(2, BadCredentials), *((one, BadSettings) for one in (7, 8, 9, 10, 15, 23, 24)),
     *((one, Rejected) for one in (1, 3, 4, 5, 6, 11, 13, 14, 16, 17, 18, 19, 20, 21, 22)),
     *((one, Unavailable) for one in (12, -1, 25, 1000))],
)  # fmt: skip
def test_every_status_has_its_reaction(status: int, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        read(200, answer(status))
    assert type(raised.value) is error
    assert raised.value.detail.startswith(f"{status}: ")


def test_a_person_who_does_not_answer_is_left_in_peace_alone() -> None:
    with pytest.raises(Unavailable) as raised:
        read(200, answer(12))
    assert raised.value.after_s is not None
    assert raised.value.after_s >= 600
    assert raised.value.certain


@pytest.mark.parametrize(
    ("status", "raw", "error", "certain"),
    [
        (200, b"", Unavailable, False), (200, b"<html>", Unavailable, False), (200, b"[]", Unavailable, False),
        (200, b"{}", Unavailable, False), (200, answer("0"), Unavailable, False), (200, answer(False), Unavailable, False),
        (500, b"", Unavailable, True), (503, b"", Unavailable, True), (504, b"", Unavailable, False), (302, b"", Unavailable, False),
        (401, b"", BadCredentials, True), (404, b"", Rejected, True), (413, b"", Rejected, True),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_viber(status: int, raw: bytes, error: type[GatewayError], certain: bool) -> None:
    with pytest.raises(GatewayError) as raised:
        read(status, raw)
    assert type(raised.value) is error
    assert getattr(raised.value, "certain", True) is certain


@pytest.mark.parametrize(("retry_after", "after_s"), [("7", 7.0), ("", None), ("soon", None), ("9" * 30, None)])
def test_too_many_requests(retry_after: str, after_s: float | None) -> None:
    with pytest.raises(RateLimited) as raised:
        read(429, b"", retry_after)
    assert raised.value.after_s == after_s


def test_a_token_keeps_all_its_digits() -> None:
    found = read(200, b'{"status": 0, "message_token": 5741311803571721087}')
    assert message_token(found) == "5741311803571721087"
    assert message_token({}) == message_token({"message_token": True}) == ""


def file(kind: Any, content_type: str, size: int, name: str = "") -> Outgoing:
    return Outgoing(to="A=", file=OutgoingFile(id="1", kind=kind, name=name, content_type=content_type, size=size))


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (Outgoing(to="A=", text="hi\0 \x07you\n"), {"type": "text", "text": "hi you\n"}),
        (Outgoing(to="A=", latitude=53.9, longitude=27.5), {"type": "location", "location": {"lat": "53.9", "lon": "27.5"}}),
        (file("image", "image/jpeg", 9), {"type": "picture", "text": "", "media": MEDIA}),
        (file("image", "image/jpeg", LARGEST_PICTURE + 1, "a.jpg"),
         {"type": "file", "media": MEDIA, "size": LARGEST_PICTURE + 1, "file_name": "a.jpg"}),
        (file("image", "image/webp", 9, "a"), {"type": "file", "media": MEDIA, "size": 9, "file_name": "a.webp"}),
        (file("video", "video/mp4", 9), {"type": "video", "media": MEDIA, "size": 9}),
        (file("video", "video/quicktime", 9, "a.mov"), {"type": "file", "media": MEDIA, "size": 9, "file_name": "a.mov"}),
        (file("voice", "application/x-unknown", 9), {"type": "file", "media": MEDIA, "size": 9, "file_name": "voice.bin"}),
        (file("file", "application/pdf", 9, "прайс.лист.pdf"), {"type": "file", "media": MEDIA, "size": 9, "file_name": "прайс.лист.pdf"}),
        (file("file", "application/pdf", 9, "x" * 400 + ".pdf"), {"type": "file", "media": MEDIA, "size": 9, "file_name": "x" * 252 + ".pdf"}),
    ],
)  # fmt: skip
def test_a_part_as_viber_takes_it(part: Outgoing, sent: dict[str, Any]) -> None:
    common = {"receiver": "A=", "sender": {"name": "June"}, "min_api_version": 1}
    assert payload(part, settings(), MEDIA) == {**common, **sent}


@pytest.mark.parametrize("text", ["й" * 30_000, "\U0001f600" * 20_000, '"' * 20_000, "слово " * 6_000])
def test_no_text_is_larger_than_viber_takes(text: str) -> None:
    parts = parts_of(CAPABILITIES, "A=", text, [])
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())
    for part in parts:
        made = payload(part, settings(sender_name="\U0001f600" * 28))
        assert len(part.text) <= 7000
        assert len(json.dumps(made, ensure_ascii=False).encode()) <= LONGEST_PAYLOAD


def test_a_file_takes_no_text_with_it() -> None:
    one = OutgoingFile(id="1", kind="file", name="a.pdf", content_type="application/pdf", size=9)
    text, attached = parts_of(CAPABILITIES, "A=", "here it is", [one], token="t")
    assert (text.text, text.file, attached.text, attached.file) == ("here it is", None, "", one)


def test_what_refusals_mean_is_said_in_both_languages() -> None:
    said = {f"reason.{code}": text for table in (codec._SAID, codec._SETTINGS) for code, text in table.items()}
    texts = read_folder("adapters.viber").texts
    assert {key: text for key, text in texts["en"].items() if key.startswith("reason.")} == said
    for key, text in said.items():
        assert words("ru").detail(f"6: {text}") == f"6: {texts['ru'][key]}"
        assert words("en").detail(f"6: {text}") == f"6: {text}"
