"""People hear of trouble: rows, messages and letters in one transaction, over restarts, and never a storm."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from actors.notices import Letter, Mails, Notices, Plan
from actors.runtime.directory import Directory, Slot
from adapters.registry import adapters
from gateway.domain.configuration import Connector
from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import OPERATOR, Kind, TenantId
from gateway.notify_block import NotifyBlock
from gateway.notify_file import read_notify_file
from gateway.settings import SettingsError
from gateway.store import notices as store
from gateway.store.integration_states import select_known
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres
from tests.web.world import JUNE, make_world

__all__ = ["db", "dsn", "postgres"]

MORE_PBXES = tuple(f"p{number:02d}" for number in range(30))
AI = {"enabled": True, "per_day_tokens": 1000}
NOTIFY = {"telegram": [-1001, "-1002/17"], "email": ["it@june.example"]}


@dataclass
class Stage:
    db: Database
    directory: Directory
    notices: Notices

    def report(self, path: str, state: State, code: str = "bad_credentials") -> None:
        slot = self.directory.get(path)
        if slot is None:
            slot = Slot(path, path.rpartition("/")[2])
            self.directory.add(slot)
        slot.report(state, code, "401")

    async def later(self, minutes: float) -> None:
        """Lets time pass, for everything that is stored."""

        async def shift(conn: Connection) -> None:
            span = f"interval '{minutes} minutes'"
            await conn.execute(
                f"UPDATE notices SET since = since - {span}, calm_since = calm_since - {span}, told_at = told_at - {span}, "
                f"reminded_at = reminded_at - {span}"
            )
            await conn.execute(f"UPDATE notice_limits SET sent = ARRAY(SELECT at - {span} FROM unnest(sent) AS at)")
            await conn.execute(f"UPDATE mails SET run_at = run_at - {span}, created_at = created_at - {span}")

        await self.db.engine(shift)
        await self.notices.look()

    async def told(self) -> tuple[list[str], list[Any]]:
        """Subjects of the letters and bodies of the deliveries."""

        async def read(conn: Connection) -> tuple[list[str], list[Any]]:
            mails = await conn.fetch("SELECT subject FROM mails ORDER BY mail_id")
            rows = await conn.fetch("SELECT body FROM deliveries WHERE kind = 'notice' ORDER BY delivery_id")
            return [row[0] for row in mails], [json.loads(row[0]) for row in rows]

        return await self.db.engine(read)

    async def subjects(self) -> list[str]:
        return (await self.told())[0]


@pytest.fixture
async def stage(db: Database) -> Stage:
    world = await make_world(db)
    found = world.cache.tenants()[JUNE]
    telegram = SimpleNamespace(key="telegram", kind="telegram", enabled=True)
    pbxes = tuple(Connector(name, Kind("asterisk"), {}) for name in ("main", *MORE_PBXES))
    tenant: Any = replace(found, options=MappingProxyType({"notify": NOTIFY, "ai": AI}), language="en", pbxes=pbxes)
    tenant = replace(tenant, integrations=MappingProxyType({**found.integrations, "telegram": telegram}))
    directory = Directory()
    cache = SimpleNamespace(tenants=lambda: {JUNE: tenant}, tenant=lambda number: tenant if number == JUNE else None)
    services: Any = SimpleNamespace(
        db=db,
        cache=cache,
        directory=directory,
        public_url="https://gw.example",
        ownership=SimpleNamespace(epoch_of=lambda number: 1),
    )

    async def slots(path: str) -> Sequence[Slot]:
        return directory.below(path)

    plan = Plan(emails=("ops@gateway.example",))
    stage = Stage(db, directory, Notices(services, adapters(), slots, mail=True, operators=plan))
    for name in ("main", *MORE_PBXES):
        stage.report(f"tenant/0367/pbx/{name}", State.ONLINE, "")
    for key in await db.engine(select_known, JUNE):
        stage.report(f"tenant/0367/integration/{key}", State.ONLINE, "")
    return stage


CRM, PBX = "tenant/0367/integration/retailcrm", "tenant/0367/pbx/main"


async def test_begin_reminder_and_end_are_told_once_each(stage: Stage) -> None:
    stage.report(CRM, State.ATTENTION)
    await stage.notices.look()
    assert await stage.told() == ([], [])
    await stage.later(3)
    await stage.later(3)
    mails, deliveries = await stage.told()
    assert mails == ["June (0367): Trouble: RetailCRM"]
    assert [(one["chat"], one["topic"]) for one in deliveries] == [(-1001, None), (-1002, 17)]
    assert "RetailCRM: does not work: bad_credentials 401" in deliveries[0]["text"]
    assert "https://gw.example/t/0367/integrations" in deliveries[0]["text"]
    await stage.later(23 * 60)
    assert len(await stage.subjects()) == 1
    await stage.later(60)
    stage.report(CRM, State.ONLINE)
    await stage.later(0)
    await stage.later(3)
    await stage.later(3)
    assert await stage.subjects() == [
        "June (0367): Trouble: RetailCRM", "June (0367): Still in trouble: RetailCRM", "June (0367): Over: RetailCRM",
    ]  # fmt: skip
    assert await stage.db.engine(store.select_in_trouble, [JUNE]) == set()


async def test_short_flaps_are_not_told(stage: Stage) -> None:
    for _ in range(3):
        stage.report(PBX, State.OFFLINE)
        await stage.later(1)
        stage.report(PBX, State.ONLINE)
        await stage.later(0)
        await stage.later(3)
    assert await stage.subjects() == []
    assert await stage.db.engine(store.select_in_trouble, [JUNE]) == set()


async def test_a_short_calm_is_not_the_end(stage: Stage) -> None:
    stage.report(PBX, State.OFFLINE)
    await stage.notices.look()
    await stage.later(3)
    for _ in range(4):  # a restart, say: the actors begin anew
        stage.report(PBX, State.ONLINE)
        await stage.later(0.5)
        stage.report(PBX, State.OFFLINE)
        await stage.later(0.5)
    assert await stage.subjects() == ["June (0367): Trouble: main"]


async def test_a_storm_is_six_messages_an_hour_and_the_rest_a_sum(stage: Stage) -> None:
    for name in MORE_PBXES:
        stage.report(f"tenant/0367/pbx/{name}", State.OFFLINE)
        await stage.notices.look()
        await stage.later(1.5)
    assert len(await stage.subjects()) == 6
    await stage.later(61)
    subjects = await stage.subjects()
    assert len(subjects) == 7
    found = await stage.told()
    assert sum(text["text"].count("the PBX is not connected") for text in found[1][::2]) >= 20
    assert "more" in found[1][-1]["text"] or "(+" in subjects[-1]


async def test_what_waits_for_long_is_a_backlog(stage: Stage) -> None:
    async def wait(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, body, keep_until, created_at) "
            "VALUES ('0367', 'retailcrm', 'l', 'k', 'upload', '{}', now() + interval '1 day', now() - interval '20 minutes')"
        )

    await stage.db.engine(wait)
    await stage.notices.look()
    await stage.later(3)
    ((subject,), deliveries) = await stage.told()
    assert subject == "June (0367): Trouble: RetailCRM"
    assert "deliveries wait: 1, " in deliveries[0]["text"]


async def test_a_budget_is_told_at_80_and_at_100_per_cent(stage: Stage) -> None:
    async def use(conn: Connection, tokens: int) -> None:
        day = "(now() AT TIME ZONE 'Europe/Minsk')::date"
        await conn.execute(
            f"INSERT INTO ai_days AS d (tenant_id, day, answers, prompt_tokens) VALUES ('0367', {day}, 1, $1) "
            "ON CONFLICT (tenant_id, day) DO UPDATE SET prompt_tokens = d.prompt_tokens + $1",
            tokens,
        )

    await stage.db.engine(use, 799)
    await stage.notices.look()
    await stage.later(3)
    assert await stage.subjects() == []
    for tokens, words in ((1, "80 %, 800 / 1000"), (250, "105 %, 1050 / 1000")):
        await stage.db.engine(use, tokens)
        await stage.notices.look()
        await stage.later(3)
        subjects, deliveries = await stage.told()
        assert subjects[-1] == "June (0367): Trouble: The AI operator"
        assert f"the day's budget is being used up: {words}" in deliveries[-1]["text"]
        assert deliveries[-1]["text"].endswith("/t/0367/ai/use")
    assert len(await stage.subjects()) == 2


async def test_operators_hear_of_the_installation(stage: Stage) -> None:
    stage.report("system/database", State.OFFLINE, "database_away")
    await stage.notices.look()
    await stage.later(3)
    assert await stage.subjects() == ["Gateway: Trouble: database"]

    async def whose(conn: Connection) -> str:
        return str(await conn.fetchval("SELECT tenant_id FROM mails"))

    assert await stage.db.engine(whose) == OPERATOR


async def test_only_what_was_chosen_is_told(stage: Stage) -> None:
    assert Plan.of({"email": ["a@b.example"], "when": ["backlog"]}, adapters()).when == {"backlog"}
    assert Plan.of(NOTIFY, adapters()).places == (("telegram", "-1001"), ("telegram", "-1002/17"))
    assert "certificate" in Plan.of({}, adapters()).when


class Post:
    """Takes letters, or raises."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((to, subject))


async def no_links(tenant: TenantId, recipient: str, purpose: str) -> Letter | None:
    raise AssertionError("these letters bear no link")


async def test_letters_are_tried_until_they_are_taken(stage: Stage) -> None:
    stage.report(CRM, State.ATTENTION)
    await stage.notices.look()
    await stage.later(3)
    post: Any = Post()
    mails = Mails(stage.db, post, no_links)
    post.error = Unavailable("mail.example does not answer")
    assert await mails.send_due() == "mail.example does not answer"
    assert await mails.send_due() == "", "not at once again"
    await stage.later(1)
    post.error = None
    assert await mails.send_due() == ""
    assert post.sent == [("it@june.example", "June (0367): Trouble: RetailCRM")]
    assert await stage.subjects() == []


async def test_a_letter_that_is_refused_is_not_tried_again(stage: Stage) -> None:
    stage.report(CRM, State.ATTENTION)
    await stage.notices.look()
    await stage.later(3)
    post: Any = Post()
    post.error = Rejected("550 no such mailbox")
    assert await Mails(stage.db, post, no_links).send_due() == "550 no such mailbox"
    assert await stage.subjects() == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"email": ["nobody"]}, "is not an e-mail address"),
        ({"when": ["sometimes"]}, "backlog"),
        ({"telegram": "x"}, "must be a list"),
        ({"telegram": ["@shop"]}, "the id of a chat is a number"),
        ({"pigeon": [1]}, "pigeon: no such field; there are email, when, telegram"),
    ],
)
def test_a_block_that_makes_no_sense(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NotifyBlock.model_validate(values)


def test_the_operators_file(tmp_path: Path) -> None:
    file = tmp_path / "notify.yaml"
    assert read_notify_file(None) == (None, None)
    file.write_text('email: [ops@gateway.example]\nwhen: [error]\ntelegram: [-1001]\nthrough: "0367"\n')
    plan, through = read_notify_file(file)
    assert plan == Plan((("telegram", "-1001"),), ("ops@gateway.example",), frozenset({"error"}))  # type: ignore[arg-type]
    assert through == TenantId("0367")
    for text, words in (
        ("telegram: [-1001]", "through must name"),
        ("- a", "must hold"),
        ("email: [x]", "is not an e-mail address"),
        (":\n:", "YAML"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError) as raised:
            read_notify_file(file)
        assert words in str(raised.value)
        assert str(raised.value).startswith("GATEWAY_NOTIFY_FILE")
    with pytest.raises(SettingsError):
        read_notify_file(tmp_path / "none")
