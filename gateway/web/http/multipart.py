"""multipart/form-data read as it comes, byte for byte: pieces in, parts out. Pure.

    preamble -> delimiter -> head -> data -> delimiter -> ... -> done

Line ends are CRLF, as RFC 7578 requires. Decoders that take a bare line feed for one as well can lose the last bytes of a
file, depending on where the pieces were cut; a recording must come out as it went in. Memory is bounded by the longest
head. Used by `gateway/web/api/uploads.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.http import parse_options_header

HEAD_LIMIT = 8 * 1024
PREAMBLE_LIMIT = 4 * 1024
MOST_PARTS = 32


class Malformed(Exception):
    """This is no multipart form."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A part begins. `file_name` is None for one that is no file."""

    name: str
    file_name: str | None
    content_type: str = ""
    """What the sender calls it."""


@dataclass(frozen=True, slots=True)
class Data:
    """Some of the part's bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The part is over."""


Event = Begin | Data | End


class Multipart:
    """Reads one form."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that a delimiter at the very beginning looks like any other
        self._state = "preamble"
        self._parts = 0

    @property
    def complete(self) -> bool:
        """True once the closing delimiter has been seen; what follows it is ignored."""
        return self._state == "done"

    def feed(self, data: bytes) -> Iterator[Event]:
        """What the next piece makes. Raises Malformed."""
        self._buffer += data
        while True:
            before = self._state, len(self._buffer)
            yield from self._step()
            if (self._state, len(self._buffer)) == before:
                return

    def _step(self) -> Iterator[Event]:
        buffer = self._buffer
        match self._state:
            case "preamble":
                at = buffer.find(self._delimiter)
                if at >= 0:
                    del buffer[: at + len(self._delimiter)]
                    self._state = "delimiter"
                elif len(buffer) > PREAMBLE_LIMIT:
                    raise Malformed("no delimiter")
            case "delimiter":
                self._after_delimiter()
            case "head":
                at = buffer.find(b"\r\n\r\n")
                if at > HEAD_LIMIT or (at < 0 and len(buffer) > HEAD_LIMIT):
                    raise Malformed("a head that is too long")
                if at >= 0:
                    yield _begin(bytes(buffer[:at]))
                    del buffer[: at + 2]  # its line end stays: a part without data has its delimiter right there
                    self._state = "first"
            case "first":
                if len(buffer) >= len(self._delimiter):
                    if buffer.startswith(self._delimiter):
                        yield from self._end()
                    else:
                        del buffer[:2]
                        self._state = "data"
            case "done":
                buffer.clear()
            case _:
                at = buffer.find(self._delimiter)
                sure = at if at >= 0 else len(buffer) - len(self._delimiter) + 1
                if sure > 0:
                    yield Data(bytes(buffer[:sure]))
                    del buffer[:sure]
                if at >= 0:
                    yield from self._end()

    def _end(self) -> Iterator[Event]:
        del self._buffer[: len(self._delimiter)]
        self._state = "delimiter"
        yield End()

    def _after_delimiter(self) -> None:
        buffer = self._buffer
        if buffer.startswith(b"--"):
            self._state = "done"
            return
        at = buffer.find(b"\r\n")
        if at < 0:
            if len(buffer.lstrip(b" \t\r-")) or len(buffer) > 100:
                raise Malformed("a delimiter that does not end")
            return
        if buffer[:at].strip(b" \t"):
            raise Malformed("a delimiter that goes on")
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Malformed("too many parts")
        del buffer[: at + 2]
        self._state = "head"


def _begin(head: bytes) -> Begin:
    headers: dict[bytes, str] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip().decode("utf-8", "replace"))
    kind, options = parse_options_header(headers.get(b"content-disposition", ""))
    if kind.lower() == "form-data" and "name" in options:
        return Begin(options["name"], options.get("filename"), headers.get(b"content-type", ""))
    raise Malformed("a part without a name")


def text_fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a whole small form; files in it are left out. Raises Malformed."""
    parts = _parts(content_type, body)
    return [(part.name, value.decode("utf-8", "replace")) for part, value in parts if part.file_name is None]


def file_fields(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """The files of a whole form in memory, each with the name of its field. Raises Malformed."""
    return [(part.name, value) for part, value in _parts(content_type, body) if part.file_name is not None]


def _parts(content_type: str, body: bytes) -> list[tuple[Begin, bytes]]:
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary:
        raise Malformed("no boundary")
    form, parts, value = Multipart(boundary.encode("latin-1", "replace")), list[tuple[Begin, bytes]](), bytearray()
    begun: Begin | None = None
    for event in form.feed(body):
        match event:
            case Begin():
                begun, value = event, bytearray()
            case Data(data):
                value += data
            case End():
                if begun is not None:
                    parts.append((begun, bytes(value)))
    if not form.complete:
        raise Malformed("it ends too early")
    return parts
