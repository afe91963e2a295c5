"""CSV files: what spreadsheets read back, formulas, separators, memory, and the lists of calls and deliveries themselves."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import Result
from gateway.domain.ids import CallId
from gateway.store.outbox import Outcome
from gateway.web import csv_download as module
from gateway.web.csv_download import _lines, batches, neutral, separator
from tests.web.conftest import SignIn
from tests.web.world import JUNE, MAPLE, SECRET_KEY, World, ended, play, ringing


def read_back(text: str, between: str) -> list[list[str]]:
    """As a spreadsheet reads it."""
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline=""), delimiter=between))


async def file_of(client: Any, path: str) -> tuple[Any, list[list[str]]]:
    answer = await client.get(path)
    assert answer.status_code == 200
    text = (await answer.get_data()).decode("utf-8")
    return answer, read_back(text, ";" if "comma" not in path else ",")


@given(st.text())
def test_no_text_begins_as_a_formula_and_none_is_lost(text: str) -> None:
    cell = neutral(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell.removeprefix("'") == text.replace("\0", "").removeprefix("'") or cell == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [(None, ""), (0, "0"), (-5, "-5"), (1.5, "1.5"), (True, "True"), ("+375291002001", "'+375291002001"),
     ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("  =1", "'  =1"), ("@x", "'@x"), ("\t=1", "'\t=1"), ("\r", "'\r"), ("a=b", "a=b"),
     ("\uff1d1", "'\uff1d1"), ("a\0b", "ab")],
)  # fmt: skip
def test_cells(value: object, cell: str) -> None:
    assert neutral(value) == cell


def test_separators() -> None:
    assert [separator(None, one) for one in ("ru", "en")] == [";", ","]
    assert [separator(one, "ru") for one in ("comma", "semicolon", "|", "")] == [",", ";", ";", ";"]


@given(
    st.lists(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4), max_size=8)
)
async def test_what_is_written_is_read_back(rows: list[list[str]]) -> None:
    async def read(place: int | None) -> tuple[Sequence[Sequence[object]], int | None]:
        at = place or 0
        return rows[at : at + 2], at + 2 if at + 2 < len(rows) else None

    for between in (";", ","):
        text = b"".join([part async for part in _lines(["a"], batches(read), between)]).decode()
        expected = [[neutral(value) for value in row] for row in rows]
        assert [row or [""] for row in read_back(text, between)[1:]] == expected


async def test_a_file_is_made_a_batch_at_a_time_and_ends_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 25)
    asked = 0

    async def read(place: int | None) -> tuple[Sequence[Sequence[object]], int | None]:
        nonlocal asked
        asked += 1
        return [[asked]] * 10, asked

    parts = _lines(["a"], batches(read), ",")
    first = await anext(parts)
    assert asked == 1, "the next batch is read when the last has been taken"
    rest = [part async for part in parts]
    assert (first + b"".join(rest)).count(b"\r\n") == 1 + 25


async def test_calls_with_the_filters_of_the_page(world: World, sign_in: SignIn) -> None:
    calls = await play(world)
    theirs = await play(world, MAPLE)
    client = await sign_in(JUNE, "ru")
    answer, rows = await file_of(client, "/t/0367/calls.csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="0367-')
    assert answer.headers["Cache-Control"] == "no-store"
    assert [row[0] for row in rows[1:]] == [call.call_id for call in sorted(calls[:8], key=lambda one: one.started_at)][
        ::-1
    ]
    assert theirs[0].call_id not in {row[0] for row in rows}
    by_id = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    line = by_id[calls[5].call_id]
    assert (line["Клиент"], line["Внутренний номер"], line["Сотрудник"], line["Говорил последним"], line["Разговор, с"]) == (
        "'+375291002004", "150", "Анна Кузьмина", "151", "189"
    )  # fmt: skip
    _, missed = await file_of(client, "/t/0367/calls.csv?result=missed&separator=comma")
    assert {row[0] for row in missed[1:]} == {calls[0].call_id, calls[6].call_id}
    assert (await client.head("/t/0367/calls.csv")).status_code == 200


async def test_every_call_is_in_the_file_once_over_many_batches(
    world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.pages.calls.BATCH", 7)
    now = datetime.now(UTC).replace(microsecond=123456)
    for number in range(30):
        a = ringing(CallId(f"8.{number:03d}"), now - timedelta(minutes=number // 4), "=1+1", "100", ["150"], trunk="@t")
        await world.keep(JUNE, [a, ended(a, 5, Result.MISSED)])
    _, rows = await file_of(await sign_in(JUNE, "ru"), "/t/0367/calls.csv")
    assert sorted(row[0] for row in rows[1:]) == [f"8.{number:03d}" for number in range(30)]
    assert {(row[3], row[12]) for row in rows[1:]} == {("'=1+1", "'@t")}


async def test_deliveries_without_what_was_sent(world: World, sign_in: SignIn) -> None:
    await play(world)
    await world.deliver(
        JUNE, "retailcrm", Outcome(state="failed", status="failed", error="-400 bad", request="x", response="y")
    )
    client = await sign_in(JUNE, "ru")
    _, rows = await file_of(client, "/t/0367/deliveries/list.csv?state=failed")
    lines = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert "'-400 bad" in [line["Ошибка"] for line in lines]
    assert {line["Система"] for line in lines} == {"RetailCRM"}
    _, everything = await file_of(client, "/t/0367/deliveries/list.csv")
    assert len(everything) > len(rows)
    assert SECRET_KEY not in str(everything)
    page = await (await client.get("/t/0367/deliveries?state=failed")).get_data(as_text=True)
    assert "/t/0367/deliveries/list.csv?state=failed&amp;separator=semicolon" in page
