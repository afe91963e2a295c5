"""Prompts: every save is a version that stays, restoring gives the very same text, one at most is active and never a wrong one."""

from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.store import prompts as store
from gateway.store.audit import select_audit
from gateway.store.postgres.errors import Conflict, QueryFailed
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import select_versions
from gateway.web.content import prompts
from gateway.web.content.profile import put_profile
from gateway.web.content.prompts import Saved
from tests.web.content.conftest import JUNE, MAPLE, WHO

GOOD = "# Role\nYou are {{business_name}}.\n# Rules\nFee: {{delivery_fee}}\n"
FEE = {"key": "delivery_fee", "label": "Delivery", "default_value": "5 BYN", "source": "custom"}
BAD = "# Role\n{{nobody}}"


async def save(db: Database, content: str = GOOD, name: str | None = "Main", **more: Any) -> Saved:
    draft = more.pop("draft", False)
    data = {"name": name, "content": content, "variables": [FEE], **more}
    return await prompts.save_prompt(db, JUNE.number, data, WHO, draft=draft)


async def active(db: Database, number: TenantId = JUNE.number) -> tuple[str, int] | None:
    found = await db.tenant(number, store.select_active, number)
    return (found[0], found[1].version) if found is not None else None


async def history(db: Database, prompt_id: str) -> list[store.VersionRow]:
    return await db.tenant(JUNE.number, store.select_history, JUNE.number, prompt_id)


async def test_saving_makes_versions_and_the_active_prompt_follows(two: Database) -> None:
    first = await save(two)
    assert (first.prompt.version, first.flaws, await active(two)) == (1, (), ("Main", 1))
    second = await save(two, GOOD + "More.\n", note="more", variables=None)
    assert (second.prompt.prompt_id, second.prompt.version) == (first.prompt.prompt_id, 2)
    assert second.prompt.variables == first.prompt.variables, "variables that are not given stay"
    assert await active(two) == ("Main", 2)
    lines = await history(two, first.prompt.prompt_id)
    assert [(one.version, one.note, one.changed_by) for one in lines] == [(2, "more", WHO), (1, "", WHO)]
    trail = await two.tenant(JUNE.number, select_audit, JUNE.number, None, 10)
    assert [(one.action, one.target, one.detail) for one in trail] == [
        ("prompt.saved", "Main", "2"),
        ("prompt.saved", "Main", "1"),
    ]


async def test_a_prompt_with_mistakes_is_a_draft_and_never_active(two: Database) -> None:
    wrong = await save(two, BAD)
    assert [flaw.line for flaw in wrong.flaws] == [1, 2]
    assert await active(two) is None
    with pytest.raises(Invalid) as refused:
        await prompts.activate(two, JUNE.number, wrong.prompt.prompt_id, WHO)
    assert [path for path, _ in refused.value.problems] == ["content", "content"]
    assert "line 2, column 1" in refused.value.problems[1][1]
    await save(two)
    assert await active(two) == ("Main", 2), "the first one without mistakes"
    await save(two, BAD)
    assert await active(two) == ("Main", 2), "bots go on with the version that has none"
    draft = await save(two, GOOD + "x", draft=True)
    assert (draft.prompt.version, draft.prompt.active_version) == (4, 2)
    done = await prompts.activate(two, JUNE.number, draft.prompt.prompt_id, WHO)
    assert done is not None
    assert await active(two) == ("Main", 4)


async def test_one_prompt_at_most_is_active(two: Database) -> None:
    main, other = await save(two), await save(two, name="Night")
    assert await active(two) == ("Main", 1), "another one is saved beside it"
    await prompts.activate(two, JUNE.number, other.prompt.prompt_id, WHO)
    assert await active(two) == ("Night", 1)
    assert [one.is_active for one in await two.tenant(JUNE.number, store.select_prompts, JUNE.number)] == [True, False]
    # Those who activate at once, one after the other.
    async with trio.open_nursery() as nursery:
        for one in (main, other) * 3:
            nursery.start_soon(prompts.activate, two, JUNE.number, one.prompt.prompt_id, WHO)
    assert sum(one.is_active for one in await two.tenant(JUNE.number, store.select_prompts, JUNE.number)) == 1

    async def both(conn: Connection) -> None:
        await conn.execute("UPDATE prompt_templates SET is_active = true, active_version = 1")

    with pytest.raises(Conflict):
        await two.tenant(JUNE.number, both)


async def test_sections_follow_the_business_type(two: Database) -> None:
    await put_profile(two, JUNE, {"business_type": "restaurant"}, WHO)
    assert len((await save(two)).flaws) == 1
    assert (await save(two, GOOD + "{{menu}}")).flaws == ()
    judged = await prompts.validate_prompt(two, JUNE.number, "x {{menu}} {{fee}}", [], "ru")
    assert judged["valid"] is False
    assert judged["variables"] == ["menu", "fee"]
    assert judged["errors"][-1] == {"message": "нет подстановки {{fee}}", "line": 1, "column": 12}


async def test_without_a_name_the_active_prompt_is_saved(two: Database) -> None:
    assert (await save(two, name=None)).prompt.name == "Основной промт"
    assert (await save(two, name=None)).prompt.version == 2
    night = await save(two, name="Night")
    await prompts.activate(two, JUNE.number, night.prompt.prompt_id, WHO)
    assert (await save(two, name=None)).prompt.name == "Night"


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        ({}, ["content"]),
        ({"content": "a\x00b", "name": "", "note": "x" * 501}, ["content", "name", "note"]),
        ({"content": "x" * 100_001}, ["content"]),
        ({"content": "x", "variables": [{"key": "a"}, {"key": "a"}, ]}, ["variables[1].key"]),
        ({"content": "x", "variables": [{"key": "phone"}, {"key": "B!"}, 7]}, ["variables[0]", "variables[1].key", "variables[2]"]),
        ({"content": "x", "variables": "no"}, ["variables"]),
    ],
)  # fmt: skip
async def test_what_cannot_be_stored_is_named(two: Database, data: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        await prompts.save_prompt(two, JUNE.number, data, WHO)
    assert [path for path, _ in refused.value.problems] == paths
    assert await two.tenant(JUNE.number, store.select_prompts, JUNE.number) == []


async def test_what_is_not_there(two: Database) -> None:
    saved = await save(two)
    for missing in ("nobody", ""):
        assert await prompts.activate(two, JUNE.number, missing, WHO) is None
        assert await prompts.restore(two, JUNE.number, missing, 1, WHO) is None
        assert await prompts.delete(two, JUNE.number, missing, WHO) is False
    for version in (2, 0, "1", True, None, 1 << 40):
        with pytest.raises(Invalid):
            await prompts.restore(two, JUNE.number, saved.prompt.prompt_id, version, WHO)
    assert await prompts.activate(two, MAPLE.number, saved.prompt.prompt_id, WHO) is None, "another company's"
    assert await prompts.restore(two, MAPLE.number, saved.prompt.prompt_id, 1, WHO) is None


async def test_removing_takes_the_history_and_never_the_active_one(two: Database) -> None:
    main, night = await save(two), await save(two, name="Night")
    with pytest.raises(Invalid):
        await prompts.delete(two, JUNE.number, main.prompt.prompt_id, WHO)
    assert await prompts.delete(two, JUNE.number, night.prompt.prompt_id, WHO) is True
    assert await history(two, night.prompt.prompt_id) == []


async def test_versions_cannot_be_changed_and_are_ones_own(two: Database) -> None:
    await save(two)

    async def forge(conn: Connection) -> None:
        await conn.execute("UPDATE prompt_history SET content = 'x'")

    async def wipe(conn: Connection) -> None:
        await conn.execute("DELETE FROM prompt_history")

    async def count(conn: Connection) -> int:
        return int(
            await conn.fetchval(
                "SELECT (SELECT count(*) FROM prompt_history) + (SELECT count(*) FROM prompt_templates)"
            )
        )

    for change in (forge, wipe):
        with pytest.raises(QueryFailed):
            await two.tenant(JUNE.number, change)
    with pytest.raises(QueryFailed):
        await two.engine(forge)  # it may remove them, with their company
    assert await two.tenant(MAPLE.number, count) == 0


async def test_every_change_raises_the_tenants_version(two: Database) -> None:
    async def version() -> int:
        return (await two.engine(select_versions))[JUNE.number]

    seen = [await version()]
    saved = await save(two)
    seen.append(await version())
    night = await save(two, name="Night")
    seen.append(await version())
    await prompts.activate(two, JUNE.number, night.prompt.prompt_id, WHO)
    seen.append(await version())
    await prompts.delete(two, JUNE.number, saved.prompt.prompt_id, WHO)
    seen.append(await version())
    assert seen == sorted(set(seen))
    await prompts.activate(two, JUNE.number, night.prompt.prompt_id, WHO)
    assert await version() == seen[-1], "nothing has changed"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t{}#"), max_size=60)


@pytest.mark.slow
async def test_each_save_is_in_the_history_and_restoring_gives_the_same_text(two: Database) -> None:
    """Feature: modular-bot-integrations, Property 7: each save is in the history, and restoring a version gives the very same
    text as a new version."""

    async def check(contents: list[str], which: int, name: str) -> None:
        for content in contents:
            saved = await save(two, content, name=name)
        which = min(which, len(contents))
        restored = await prompts.restore(two, JUNE.number, saved.prompt.prompt_id, which, WHO)
        assert restored is not None
        assert restored.prompt.content == contents[which - 1]
        lines = await history(two, saved.prompt.prompt_id)
        assert [one.content for one in reversed(lines)] == [*contents, contents[which - 1]]
        assert [one.version for one in lines] == list(range(len(contents) + 1, 0, -1))
        if await active(two) != (name, restored.prompt.version):  # so that the prompts do not become too many
            await prompts.delete(two, JUNE.number, saved.prompt.prompt_id, WHO)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 4), st.uuids())
    def examples(contents: list[str], which: int, name: UUID) -> None:
        trio.from_thread.run(check, contents, which, str(name))

    await trio.to_thread.run_sync(examples)
