"""`gateway replay` as it reads files and prints lines."""

import gzip
import io
import json
import shutil
from pathlib import Path

import pytest

from adapters.asterisk.replay import read_index
from adapters.asterisk.replay import replay as emit
from gateway.cli.replay import ReplayError, replay
from gateway.domain.events import CallEnded, Result, from_json, to_json
from tests.adapters.asterisk.captures import HERE, TRUNKS, capture


def run(path: Path) -> list[dict[str, object]]:
    out = io.StringIO()
    assert replay(str(path), TRUNKS, "BY", out) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_an_event() -> None:
    recording = capture("22/01")
    lines = run(recording.path)
    assert lines == [to_json(event) for event in recording.events()]
    assert [from_json(line) for line in lines][-1].call_id == "1795219998.3600"
    assert str(lines[0]["at"]).startswith("2026-11-21T00:13:18.00")


def test_packed_captures_with_packed_or_plain_times(tmp_path: Path) -> None:
    path = HERE / "22" / "01-incoming-answered.ami"
    packed = tmp_path / "call.ami.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [line["event"] for line in run(packed)][-1] == "call_ended"
    shutil.copy(path.with_name(path.name + ".idx"), tmp_path / "call.ami.idx")
    assert run(packed) == run(path)
    assert len(run(HERE / "22" / "20-load-sip.ami.gz")) == 1600


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    data = capture("22/01").data.replace(b"+375296254070", "Анна".encode())
    (tmp_path / "call.ami").write_bytes(data)
    out = io.StringIO()
    replay(str(tmp_path / "call.ami"), TRUNKS, "BY", out)
    assert '"Анна"' in out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "index"),
    [
        ("missing.ami", None, None),
        ("call.ami", b"hello", None),
        ("call.ami", b"", None),
        ("call.ami.gz", b"\x1f\x8bnot", None),
        ("call.ami", b"Asterisk Call Manager/1\r\n", b"not json"),
        ("call.ami", b"Asterisk Call Manager/1\r\n", b"\xff"),
    ],
)
def test_bad_files_are_one_line_for_a_person(
    tmp_path: Path, name: str, data: bytes | None, index: bytes | None
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    if index is not None:
        (tmp_path / f"{name}.idx").write_bytes(index)
    with pytest.raises(ReplayError) as refused:
        replay(str(tmp_path / name), (), None, io.StringIO())
    assert "\n" not in str(refused.value)


def test_an_index_is_reads_in_order() -> None:
    assert read_index(
        '{"t": 1, "off": 5, "n": 2}\n\n{"t": 0.5, "off": 0, "n": 5}\n{"t": 0, "off": 0, "sent": "x"}'
    ) == [
        (0, 0.5),
        (5, 1.0),
    ]


def test_a_list_of_channels_in_the_middle_of_a_call_is_no_gap() -> None:
    """Whoever recorded it may have asked; nothing was missed."""
    data = capture("22/10").data
    listed = (
        b"Event: CoreShowChannel\r\nChannel: PJSIP/trunk-0001-00000000\r\nChannelState: 4\r\nUniqueid: 1.1\r\nLinkedid: 1.1\r\n\r\n"
        b"Event: CoreShowChannelsComplete\r\nEventList: Complete\r\n\r\n"
    )
    for mark in (b"Event: DialBegin", b"Event: DialEnd", b"Event: HangupRequest"):
        cut = data.index(mark)
        (ended,) = (e for e in emit(data[:cut] + listed + data[cut:], None, TRUNKS, "BY") if isinstance(e, CallEnded))
        assert (ended.result, ended.uncertain) == (Result.ANSWERED, False), mark
