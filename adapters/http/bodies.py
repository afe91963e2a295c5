"""What a request carries: a form, JSON of any kind, or a form with files whose bytes are streamed. Pure but for the files'
own reading. Read `client.py` next.
"""

import json
import secrets
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

Form = Mapping[str, str] | Sequence[tuple[str, str]]
"""Fields of a form; pairs where one comes more than once."""


class Absent:
    """There is no JSON body; `None` would be JSON's null."""


ABSENT: Final = Absent()


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file of a multipart form. `pieces` is called once a request and gives exactly `size` bytes."""

    name: str
    filename: str
    size: int
    pieces: Callable[[], AsyncIterable[bytes]] = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Body:
    """Parts in the order in which they are sent, their length in bytes, their type, and how they are shown in the log."""

    parts: Sequence[bytes | Upload] = ()
    length: int = 0
    content_type: str = ""
    shown: str = ""


def encode(form: Form | None, payload: Any, files: Sequence[Upload] = (), *, show: bool = True) -> Body:
    """The body of a request; empty without one. Raises ValueError for what JSON cannot hold (such as NaN) and for a JSON body
    beside a form."""
    if payload is not ABSENT:
        if form is not None or files:
            raise ValueError("a request has one body")
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = text.encode()
        shown = json.dumps(payload, ensure_ascii=False) if show else ""
        return Body((data,), len(data), "application/json", shown)
    if form is None and not files:
        return Body()
    pairs = list(form.items() if isinstance(form, Mapping) else form or ())
    lines = [f"{name}={value}" for name, value in pairs] if show else []
    if not files:
        data = urlencode(pairs).encode("ascii")
        return Body((data,), len(data), "application/x-www-form-urlencoded", "\n".join(lines))
    lines += [f"{file.name}=<{file.filename}, {file.size} bytes>" for file in files]
    return _multipart(pairs, files, "\n".join(lines))


def _multipart(pairs: Sequence[tuple[str, str]], files: Sequence[Upload], shown: str) -> Body:
    boundary = secrets.token_hex(16)
    parts: list[bytes | Upload] = []
    head = ""
    for name, value in pairs:
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"\r\n\r\n{value}\r\n'
    for file in files:
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(file.name)}"; '
            f'filename="{_escaped(file.filename)}"\r\nContent-Type: {_escaped(file.content_type)}\r\n\r\n'
        )
        parts += [head.encode(), file]
        head = "\r\n"
    parts.append(f"{head}--{boundary}--\r\n".encode())
    length = sum(part.size if isinstance(part, Upload) else len(part) for part in parts)
    return Body(parts, length, f"multipart/form-data; boundary={boundary}", shown)


def _escaped(text: str) -> str:
    """As browsers write names (WHATWG HTML, multipart/form-data): quotes and line ends by percent signs."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
