"""`gateway ai replay`: scripted conversations played with a model on a scratch database, scored, and beside an earlier run.

Nothing of the installation is changed: with `--tenant` the company's profile, catalog and prompt are read, and everything else happens
in a PostgreSQL of its own that is gone afterwards. Read `actors/ai/replay/` for how it is played.
"""

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from actors.ai.answering import Asked
from actors.ai.replay.by_the_book import NAME, ByTheBook
from actors.ai.replay.corpus import BadCorpus, Company, Conversation, Corpus, Today, read_corpus
from actors.ai.replay.report import About, NoReport, compared, lines_of, read_report, report_of
from actors.ai.replay.running import Played, Player
from actors.ai.tenant_ai import model_of
from adapters.base import Dialer
from adapters.llm.client import ModelSettings, open_model
from gateway.cache import assemble
from gateway.domain.ai import AiBlock, settings_of
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import select_items
from gateway.store.embedded.embedded import embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import Database, open_database
from gateway.store.prompts import select_active, select_prompt_named, select_version
from gateway.store.secrets.seal import MasterKeys, new_master_key, parse_master_keys
from gateway.store.tenants import select_tenants

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For a database that is thrown away."""
Emit = Callable[[str], None]


class Refused(Exception):
    """What cannot be done; `problems` are lines for a person."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command's arguments."""

    file: Path | None
    only: tuple[str, ...] = ()
    by_the_book: bool = False
    print_requests: bool = False
    report: Path | None = None
    compare: Path | None = None
    at_once: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a company brings: of the installation's database."""

    company: Company
    settings: AiBlock
    prompt: str
    version: int


async def read_company(
    db: Database, master: MasterKeys, number: TenantId, prompt: str | None, version: int | None
) -> Given:
    """A company with one of its prompts: the active one, or that with a name, at a version or its newest. Raises Refused."""
    rows = await db.engine(select_tenants, [number])
    if not rows:
        raise Refused(f"there is no tenant {number}")
    await master.prepare([(number, rows[0].data_key)])
    tenant: Tenant = assemble(rows[0], master)
    if prompt is None:
        active = await db.tenant(number, select_active, number)
        if active is None:
            raise Refused(f"tenant {number} has no active prompt")
        name, row = active
    else:
        found = await db.tenant(number, select_prompt_named, number, prompt)
        if found is None:
            raise Refused(f"tenant {number} has no prompt called {prompt}")
        kept = await db.tenant(number, select_version, number, found.prompt_id, version or found.version)
        if kept is None:
            raise Refused(f"prompt {prompt} has no version {version}")
        name, row = prompt, kept
    profile, items = await db.tenant(number, select_profile, number), await db.tenant(number, select_items, number)
    try:
        company = Company(
            name=tenant.name, language="ru" if tenant.language == "ru" else "en", country=tenant.country, timezone=tenant.timezone.key,
            profile=profile, catalog=tuple(items), prompt=row.content, variables=row.variables,
        )  # fmt: skip
        settings = settings_of(tenant.options, tenant.secrets)
    except ValidationError as error:
        raise Refused(*(f"tenant {number}: {one['msg']}" for one in error.errors())) from None
    return Given(company=company, settings=settings, prompt=name, version=row.version)


async def replay(
    wanted: Wanted, given: Given | None, default: ModelSettings | None, dial: Dialer, model: str, emit: Emit, warn: Emit
) -> dict[str, Any]:
    """Plays and reports. Returns the report. Raises Refused, OSError, ModelFailed where no model is set up, NoServer."""
    try:
        corpus = read_corpus(wanted.file)
    except BadCorpus as bad:
        raise Refused(*bad.problems) from None
    _check(corpus, wanted, given)
    before = _earlier(wanted.compare) if wanted.compare is not None else None
    settings = given.settings if given is not None else AiBlock()
    settings = settings.model_copy(
        update={"enabled": True, "per_conversation_day": 10_000, "per_day_tokens": 10_000_000_000}
    )
    asked = model_of(settings.llm, default, dial)
    asked = replace(asked, model=model or asked.model)
    async with AsyncExitStack() as stack:
        if wanted.by_the_book:
            asked = replace(asked, model=NAME)
            models = _by_the_book
        else:
            opened = await stack.enter_async_context(open_model(asked))

            def models(conversation: Conversation, company: Company, today: Today) -> Asked:
                return opened

        db, master = await stack.enter_async_context(scratch_database())
        player = Player(
            db=db, master=master, models=models, settings=settings, api=asked.api, model=asked.model,
            own=given.company if given is not None else None, keep_requests=wanted.print_requests, at_once=wanted.at_once,
        )  # fmt: skip
        played = await player.play(corpus, wanted.only)
    report = report_of(_about(corpus, wanted, given, asked.model), played)
    if wanted.print_requests:
        _print_requests(played, emit)
    for line in lines_of(report):
        (warn if wanted.print_requests else emit)(line)
    for line in compared(before, report) if before is not None else ():
        (warn if wanted.print_requests else emit)(line)
    if wanted.report is not None:
        wanted.report.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return report


def _by_the_book(conversation: Conversation, company: Company, today: Today) -> Asked:
    return ByTheBook(today, conversation.language or company.language)


def _check(corpus: Corpus, wanted: Wanted, given: Given | None) -> None:
    ids = {one.id for one in corpus.conversations}
    if unknown := [one for one in wanted.only if one not in ids]:
        raise Refused(*(f"there is no conversation {one} in this file" for one in unknown))
    for one in corpus.conversations:
        if wanted.only and one.id not in wanted.only:
            continue
        if given is None and one.company is None:
            raise Refused(f"conversation {one.id} names no company: give one by --tenant")
        if given is not None and one.company is not None:
            raise Refused(f"conversation {one.id} has a company of its own: --tenant is for a file without companies")


def _earlier(path: Path) -> dict[str, Any]:
    try:
        return read_report(path.read_text("utf-8"))
    except (NoReport, UnicodeDecodeError):
        raise Refused(f"{path}: is no report that --report has written") from None


def _about(corpus: Corpus, wanted: Wanted, given: Given | None, model: str) -> About:
    prompts = json.dumps({name: one.prompt for name, one in sorted(corpus.companies.items())}, ensure_ascii=False)
    return About(
        prompt=given.prompt if given is not None else "corpus", model=model,
        prompt_version=f"version {given.version}" if given is not None else _hash(prompts),
        corpus=_hash(corpus.model_dump_json()), at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _print_requests(played: Sequence[Played], emit: Emit) -> None:
    for one in played:
        for place, step in enumerate(one.steps, 1):
            for number, body in enumerate(step.requests, 1):
                emit(
                    json.dumps(
                        {"conversation": one.id, "step": place, "request": number, "body": body}, ensure_ascii=False
                    )
                )


@asynccontextmanager
async def scratch_database() -> AsyncIterator[tuple[Database, MasterKeys]]:
    """A migrated database of its own, which is gone afterwards. Raises NoServer."""
    with tempfile.TemporaryDirectory(prefix="gateway-replay-") as folder:
        async with embedded(Path(folder), settings=QUICK) as server:
            await migrate(server.dsn, login=unquote(urlsplit(server.login_dsn).username or ""), make_login=True)
            async with open_database(server.login_dsn) as db:
                yield db, parse_master_keys(new_master_key())
