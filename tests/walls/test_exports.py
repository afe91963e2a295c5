"""The file that `gateway export` prints of one company holds nothing of another's, and no secret unless it is asked for."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.cli.tenants import export
from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import OwnConnection, open_database, open_session
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from tests.walls.rows import Companies, Company, Ids, fill_both, new_companies, secrets_of

pytestmark = pytest.mark.long


def betraying(of: Companies) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What would betray A in B's file, and B in A's."""

    def shown(company: Company, sets: Iterable[Ids]) -> tuple[str, ...]:
        return (company.mark, company.number, *(text for ids in sets for text in ids.shown()))

    return shown(of.a, of.of_a), shown(of.b, of.of_b)


async def _keep_both(conn: OwnConnection) -> None:
    """No company is being deleted: one that is cannot be exported."""
    await conn.execute("DELETE FROM tenant_deletions")


@pytest.mark.parametrize("reveal", [False, True])
async def test_an_export_holds_nothing_of_another_company(dsn: str, tmp_path: Path, *, reveal: bool) -> None:
    master = parse_master_keys(new_master_key())
    of = new_companies(master)
    async with open_session(dsn) as owner, open_database(as_login(dsn), size=1, engine_size=1) as db:
        await owner.run(fill_both, of)
        await owner.run(_keep_both)
        texts = [await export(db, master, company.number, reveal=reveal) for company in (of.a, of.b)]
    of_a, of_b = betraying(of)
    assert [text for text in of_b if text in texts[0]] == []
    # B's rows have the ids of A's too: those that are A's alone are its number and its mark.
    assert [text for text in of_a[:2] if text in texts[1]] == []
    for company, sets, text in ((of.a, of.of_a, texts[0]), (of.b, of.of_b, texts[1])):
        assert company.number in text
        assert company.mark in text
        shown = [secret for secret in secrets_of(company, sets) if secret in text]
        assert bool(shown) is reveal, shown
