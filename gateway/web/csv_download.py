"""Lists as CSV files that spreadsheets open as they are: streamed, in the reader's separator, with nothing that could run.

    rows, a batch at a time  ->  bytes as they are made  ->  the browser; nothing is held but one batch

UTF-8 with a byte order mark, CRLF, a semicolon where the reader's spreadsheets expect one. A text that a spreadsheet would take
for a formula gets an apostrophe in front. When the database goes away midway the transfer breaks off, so that a file cut short is
not taken for a whole one. Used by the pages of calls, deliveries and audit.
"""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

from quart import request
from quart_trio.wrappers import TrioResponse as Response

T = TypeVar("T")

BATCH = 500
"""Rows that are read, and held, at a time."""
MOST = 1_000_000
"""Rows of one file: as many as a spreadsheet shows."""
SEPARATORS = {"semicolon": ";", "comma": ","}
_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula; the last four are the full-width forms, which some spreadsheets take for the same."""


def neutral(value: object) -> str:
    """A value as the text of a cell, which no spreadsheet takes for a formula. Numbers stay numbers, also negative ones."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    text = str(value).replace("\0", "")
    return f"'{text}" if text.lstrip(" ").startswith(_RUNS) else text


def local_time(moment: datetime | None, zone: ZoneInfo) -> str:
    """A time as spreadsheets read it: by the company's clock, to the second."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if moment is not None else ""


def separator(chosen: str | None, language: str) -> str:
    """The separator that was chosen by name, else that of spreadsheets in the reader's language."""
    return SEPARATORS.get(chosen or "", ";" if language == "ru" else ",")


async def batches(
    read: Callable[[T | None], Awaitable[tuple[Sequence[Sequence[object]], T | None]]],
) -> AsyncIterator[Sequence[Sequence[object]]]:
    """All rows, a batch at a time. `read` is given where the last batch ended, None at the start, and returns rows and where
    they end, None behind the last."""
    place: T | None = None
    sent = 0
    while sent < MOST:
        rows, place = await read(place)
        if rows:
            yield rows[: MOST - sent]
        sent += len(rows)
        if place is None:
            return


async def _lines(
    header: Sequence[str], rows: AsyncIterator[Sequence[Sequence[object]]], between: str
) -> AsyncIterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=between, lineterminator="\r\n")
    text.write("\ufeff")
    writer.writerow([neutral(name) for name in header])
    async for batch in rows:
        writer.writerows([neutral(value) for value in row] for row in batch)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def csv_download(
    name: str, header: Sequence[str], rows: AsyncIterator[Sequence[Sequence[object]]], *, between: str
) -> Response:
    """The response: a file `name`.csv with `rows` (see `batches`) under `header`, cells apart by `between`."""
    body = _lines(header, rows, between) if request.method != "HEAD" else b""
    response = Response(body, content_type="text/csv; charset=utf-8")
    response.timeout = None
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}.csv\"; filename*=UTF-8''{quote(name)}.csv"
    )
    return response
