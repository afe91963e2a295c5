"""What people hand over as captures: line ends, headers and encodings that other programs made, and files that are none.

The streams of `field/captures` were made after public reports; the variants are made here of streams of a real Asterisk.
"""

import gzip
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from adapters.asterisk.captures import read_capture
from adapters.asterisk.replay import replay as events_of
from gateway.cli.replay import ReplayError, replay
from gateway.domain.errors import BadSettings, RemoteProtocolError
from gateway.domain.events import to_json
from tests.adapters.asterisk.captures import HERE, TRUNKS, capture

FIELD = HERE / "field" / "captures"
CASES = sorted(FIELD.glob("*.ami"))
CALL = capture("22/01")
TRUTH = [to_json(event) for event in CALL.events()]
UNTIMED = [to_json(event) for event in events_of(CALL.data, None, TRUNKS, "BY")]
LF = CALL.data.replace(b"\r\n", b"\n")


def printed(path: Path, trunks: tuple[str, ...] = TRUNKS, country: str = "BY") -> list[dict[str, Any]]:
    """The lines of `gateway replay`."""
    out = io.StringIO()
    assert replay(str(path), trunks, country, out) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def refused(path: Path) -> str:
    """Why `gateway replay` does not read it; it has printed nothing."""
    out = io.StringIO()
    with pytest.raises(ReplayError) as caught:
        replay(str(path), TRUNKS, "BY", out)
    assert out.getvalue() == ""
    assert "\n" not in caught.value.person
    return caught.value.person


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_capture_as_people_make_them_is_right_or_refused_in_words(path: Path) -> None:
    expected = json.loads(path.with_name(path.name.replace(".ami", ".expect.json")).read_text("utf-8"))
    if path.stem.startswith("c08"):
        assert re.search(expected["or_refused"], refused(path))
        return
    ends = [
        line for line in printed(path, tuple(expected["trunks"]), expected["country"]) if line["event"] == "call_ended"
    ]
    assert [{name: end[name] for name in call} for call, end in zip(expected["calls"], ends, strict=True)] == expected[
        "calls"
    ]


TELNET = b"Trying 192.0.2.1...\r\nConnected to pbx.\r\nEscape character is '^]'.\r\n"
SCRIPT = (
    b'Script started on 2026-11-21 00:13:17+00:00 [TERM="xterm" TTY="/dev/pts/0"]\n\x1b[?2004h$ telnet pbx 5038\r\n'
)
PUTTY = b"=~=~=~=~=~=~=~=~=~=~=~= PuTTY log 2026.11.21 00:13:17 =~=~=~=~=~=~=~=~=~=~=~=\r\n"
TYPED = b"Action: Login\r\nUsername: lab\r\nSecret: x\r\n\r\n"
BANNER, _, REST = CALL.data.partition(b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        CALL.data,
        LF,
        CALL.data.replace(b"\r\n", b"\r"),
        CALL.data.replace(b"\r\n", b"\r\r\n"),
        b"\xef\xbb\xbf" + CALL.data,
        b"\xef\xbb\xbf" + LF,
        CALL.data.decode().encode("utf-16"),
        LF.decode().encode("utf-16"),
        b"\xfe\xff" + CALL.data.decode().encode("utf-16-be"),
        b"\r\n\r\n" + CALL.data,
        TELNET + CALL.data + b"Connection closed by foreign host.\r\n",
        TELNET.replace(b"\r", b"") + LF + b"Connection closed by foreign host.\n",
        SCRIPT + TELNET + CALL.data + b"\r\nScript done on 2026-11-21 00:14:00+00:00\n",
        PUTTY + CALL.data,
        BANNER + b"\r\n" + TYPED + REST,
        gzip.compress(CALL.data),
        gzip.compress(LF),
    ],
    ids=[
        "as it came", "lf", "cr", "cr cr lf", "bom", "bom lf", "utf-16", "utf-16 lf", "utf-16 be", "empty lines", "telnet",
        "telnet lf", "script", "putty", "typed", "gz", "gz lf",
    ],
)  # fmt: skip
def test_the_same_call_whatever_wrote_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "call.ami").write_bytes(data)
    assert printed(tmp_path / "call.ami") == UNTIMED


@pytest.mark.parametrize("packed", [False, True])
def test_times_of_an_index_hold_for_line_ends_that_were_changed(tmp_path: Path, packed: bool) -> None:
    """An index made of the stream before its line ends were changed, and one made of the file as it is now."""
    (tmp_path / "call.ami").write_bytes(gzip.compress(LF) if packed else LF)
    index = tmp_path / "call.ami.idx"
    index.write_text(CALL.index)
    assert printed(tmp_path / "call.ami") == TRUTH
    rows = [json.loads(line) for line in CALL.index.splitlines()]
    ends = [CALL.data[: row["off"]].count(b"\r\n") for row in rows]
    moved = [row | {"off": row["off"] - lines} for row, lines in zip(rows, ends, strict=True)]
    for row, later in zip(moved, [*moved[1:], {"off": len(LF)}], strict=True):
        if "n" in row:
            row["n"] = later["off"] - row["off"]
    index.write_text("".join(json.dumps(row) + "\n" for row in moved))
    assert printed(tmp_path / "call.ami") == TRUTH


def test_a_capture_that_begins_in_the_middle_of_a_message() -> None:
    """What came before it is not there; what comes after is told as ever."""
    start = CALL.data.index(b"Event: Newchannel")
    for cut in (start, start - 1, start - 30):
        assert [to_json(event) for event in events_of(CALL.data[cut:], None, TRUNKS, "BY")] == UNTIMED
    both = CALL.data[start:] + CALL.data.replace(b"1795219998.", b"1795219999.")
    assert len([e for e in events_of(both, None, TRUNKS, "BY") if to_json(e)["event"] == "call_ended"]) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\r\n\r\n \n", "empty"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(CALL.data)[:500], "gzip"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + CALL.data, "packet capture"),
        (b"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00" + CALL.data, "packet capture"),
        (b"\x7fELF\x02\x01\x01\x00" + CALL.data, "binary"),
        (b"\xfd7zXZ\x00\x00\x04", "binary"),
        (b"PK\x03\x04\x14\x00", "binary"),
        (b"<html><body>502 Bad Gateway</body></html>\n", "neither"),
        (b'{"event": "call_ended"}\n', "neither"),
        (b"12:00:01 Event: Newchannel\n12:00:02 Uniqueid: 1.1\n", "neither"),
        (BANNER + b"\r\n", "not one message"),
        (BANNER + b"\r\nnothing of AMI\r\n\r\n", "not one message"),
        (CALL.data.replace(b"\r\nLinkedid: ", b"\r\nLink: "), "Linkedid"),
        (CALL.data.replace(b"Manager/11.0.0", b"Manager/1.1"), "Asterisk 11 or older"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_capture_is_refused_in_words(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "call.ami").write_bytes(data)
    assert words in refused(tmp_path / "call.ami")


def test_a_capture_without_a_call_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = HERE / "22" / "00b-session-readonly.ami"
    assert printed(path) == []
    assert "no call is in this capture" in capsys.readouterr().err


def test_an_older_asterisk_later_in_a_capture_is_refused_too() -> None:
    older = CALL.data.replace(b"Manager/11.0.0", b"Manager/1.3")
    with pytest.raises(BadSettings):
        list(events_of(CALL.data + older, None, TRUNKS, "BY"))


def test_a_packed_file_is_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.replay.MAX_BYTES", 1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    (tmp_path / "call.ami.gz").write_bytes(
        b"".join(packer.compress(b"\n" * (1 << 20)) for _ in range(64)) + packer.flush()
    )
    assert "larger than 1 MiB" in refused(tmp_path / "call.ami.gz")


def test_a_line_end_alone_in_a_stream_of_crlf_stays_what_it_is() -> None:
    """Asterisk itself writes one after "No Contacts found"."""
    data = BANNER + b"\r\nResponse: Error\r\nMessage: No Contacts found\n\r\n\r\nEvent: X\r\n\r\n"
    assert read_capture(data, [], 0).data == data
    with pytest.raises(RemoteProtocolError):
        read_capture(b"x", [], 0)
