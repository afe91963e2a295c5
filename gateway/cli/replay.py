"""`gateway replay`: the call events of a captured stream, one JSON object a line. Needs no database.

Owns reading the files, up to a limit; what they mean is decided by the PBX adapter, found in the registry. A capture that
cannot be read prints nothing at all, and one without a call prints that.
"""

import gzip
import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from adapters.registry import adapters
from gateway.domain.errors import GatewayError, Permanent
from gateway.domain.events import to_json

MAX_BYTES = 512 * 1024 * 1024
"""Of a capture, unpacked: a day of a busy PBX is a tenth of it."""


class ReplayError(Permanent):
    """The capture cannot be replayed."""


def replay(path: str, trunks: Sequence[str], country: str | None, out: TextIO) -> int:
    """Prints the events of the capture at `path`, all or none, and returns the exit code. Raises ReplayError."""
    teller = next((adapter.replay for adapter in adapters().values() if adapter.replay is not None), None)
    if teller is None:
        raise ReplayError(person="no PBX adapter here can replay captures")
    capture = Path(path)
    data = _read(capture)
    index = next((_read(file) for file in _beside(capture) if file.exists()), None)
    try:
        text = index.decode("utf-8") if index is not None else None
        events = [json.dumps(to_json(event), ensure_ascii=False) for event in teller(data, text, trunks, country)]
    except (GatewayError, ValueError) as error:
        raise ReplayError(person=f"{path}: {error}") from error
    for event in events:
        out.write(event + "\n")
    if not events:
        print(f"{path}: no call is in this capture", file=sys.stderr)
    return 0


def _beside(capture: Path) -> tuple[Path, ...]:
    """Where the times of arrival may be: FILE.ami.idx, packed or not, beside FILE.ami or FILE.ami.gz."""
    plain = capture.with_name(capture.name.removesuffix(".gz") + ".idx")
    return plain, plain.with_name(plain.name + ".gz"), capture.with_name(capture.name + ".idx")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
            opened.seek(0)
            data = (gzip.GzipFile(fileobj=opened) if packed else opened).read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ReplayError(person=f"{file}: larger than {MAX_BYTES >> 20} MiB; replay a part of it")
        return data
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a whole gzip file"
        raise ReplayError(person=f"{file}: {reason}") from error
