"""The AI operator of a company: its settings with a test of the model, and what it was used for, by day.

What was typed and is refused is shown again with its problems; a key that was typed waits sealed meanwhile. Read
`gateway/web/content/ai.py` for what is stored, `actors/ai/tenant_ai.py` for who answers.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from pydantic import ValidationError
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.llm.protocol import ModelFailed
from adapters.registry import adapters
from gateway.domain.ai import CAUSES, AiBlock, settings_of
from gateway.domain.configuration import Tenant
from gateway.domain.ids import kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import texts_of
from gateway.store.ai_answers import select_use
from gateway.store.ai_use import DayHandOvers, DayUse, select_day_hand_overs, select_day_use
from gateway.store.prompts import select_active
from gateway.web.content.ai import FIELDS, KEYS, block_of, form_of, put_ai, sent_form, try_model
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note, read_flash
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

FLASH, TRIED = "ai", "ai_tried"
DAYS, MOST_DAYS = 14, 92


def _stored(company: Tenant) -> AiBlock | None:
    """The settings; None where what is stored is not valid any more."""
    try:
        return settings_of(company.options, company.secrets)
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both included."""

    since: date
    until: date

    @classmethod
    def of(cls, sent: Mapping[str, str], today: date) -> "Span":
        """As it was chosen; what makes no sense is as if it were absent."""
        until = _day(sent.get("until", "")) or today
        since = _day(sent.get("since", "")) or until - timedelta(days=DAYS - 1)
        since, until = min(since, until), max(since, until)
        return cls(max(since, until - timedelta(days=MOST_DAYS - 1)), until)


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 2000 <= found.year < 2200 else None


@dataclass(frozen=True, slots=True)
class Totals:
    """Of several days."""

    sent: int
    others: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


def totals_of(days: Sequence[DayUse], block: AiBlock) -> Totals:
    """The sum, with what it costs."""
    asked, said = sum(one.prompt_tokens for one in days), sum(one.completion_tokens for one in days)
    return Totals(
        sum(one.sent for one in days), sum(one.others for one in days), asked, said, block.price.cost(asked, said)
    )


def ai_pages(gate: Gate) -> Blueprint:
    """The pages `/t/<number>/ai` and `/t/<number>/ai/use`."""
    pages = Blueprint("ai", __name__, url_prefix="/t/<number>/ai")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def home() -> str:
        return f"/t/{tenant().number}/ai"

    @pages.get("")
    async def settings(number: str) -> Response:
        stored, refused, tried = _stored(tenant()), flashed(FLASH), flashed(TRIED)
        values = form_of(stored or AiBlock())
        if refused is not None:
            values = {**values, **refused.body["values"], **dict.fromkeys(refused.secrets, MASK)}
        problems: Mapping[str, Mapping[str, str]] = refused.body["problems"] if refused is not None else {}
        channels = deps.conversing.channels(tenant()) if deps.conversing is not None else {}
        able = [key for key, one in tenant().integrations.items() if _can_tell(one.kind)]
        prompt = await deps.db.tenant(tenant().number, select_active, tenant().number)
        return site.page(
            "ai.html", values=values, problems={name: problems.get(name) for name in FIELDS},
            wrong=[name for name in FIELDS if name in problems], wrong_texts=any(name.startswith("handoff.texts.") for name in problems), lost=stored is None, causes=CAUSES,
            channels=list(dict.fromkeys([*map(str, channels), *(values["channels"] or ())])),
            notify=list(dict.fromkeys([*map(str, able), *values["handoff.notify"]])), titles=_titles(tenant()),
            tried=tried.body if tried is not None else None, pending=refused.flash_id if refused is not None else "",
            may_test=deps.models is not None, prompt=prompt[0] if prompt is not None else None,
            installation=deps.sandbox.model.model if deps.sandbox.model is not None else "",
        )  # fmt: skip

    @pages.post("")
    async def save(number: str) -> Answer:
        form = await request.form
        values = sent_form(form, form.getlist)
        pending = await read_flash(deps, gate.token(), form.get("pending", ""), tenant=tenant().number)
        if pending is not None and pending.kind == FLASH:
            values |= {
                name: key.reveal() for name, key in pending.secrets.items() if name in KEYS and values[name] == MASK
            }
        sealer = deps.cache.sealer(tenant().number)
        assert sealer is not None, "a company that is shown has a key"
        try:
            await put_ai(deps.db, sealer, tenant().number, block_of(values, _stored(tenant())), viewer().session_email)
        except Invalid as refused:
            held = {name: Secret(typed) for name in KEYS if (typed := values[name].strip()) not in ("", MASK)}
            body = {"values": {**values, **dict.fromkeys(held, "")}, "problems": _by_field(refused)}
            flash = Flash(kind=FLASH, body=body, secrets=held)
            return await lead_on(deps, gate.token(), home(), flash, tenant=tenant().number)
        await deps.modules.refresh(tenant().number)
        return await lead_on(deps, gate.token(), home(), note("ai.saved"))

    @pages.post("/test")
    async def test(number: str) -> Answer:
        stored = _stored(tenant()) or AiBlock()
        assert deps.models is not None
        try:
            reply = await try_model(deps.sandbox, deps.models, tenant(), stored)
            body: dict[str, Any] = {
                "ok": True,
                "model": reply.model,
                "tokens": (reply.prompt_tokens or 0) + (reply.completion_tokens or 0),
            }
        except ModelFailed as failure:
            body = {
                "ok": False,
                "code": failure.code,
                "own": stored.llm.url is not None,
                "detail": failure.detail[:200],
            }
        return await lead_on(deps, gate.token(), f"{home()}#model", Flash(kind=TRIED, body=body))

    @pages.get("/use")
    async def use(number: str) -> Response:
        who, block = tenant(), _stored(tenant()) or AiBlock()
        today = datetime.now(who.timezone).date()
        span = Span.of(request.args, today)
        between = (who.number, span.since, span.until, who.timezone.key)
        days: list[DayUse] = await deps.db.tenant(who.number, select_day_use, *between)
        over: list[DayHandOvers] = await deps.db.tenant(who.number, select_day_hand_overs, *between)
        spent = await deps.db.tenant(who.number, select_use, who.number, today)
        by_day = defaultdict[date, list[DayUse]](list)
        for one in days:
            by_day[one.day].append(one)
        causes, handed = Counter[str](), Counter[date]()
        for each in over:
            causes[each.cause] += each.count
            handed[each.day] += each.count
        by_prompt = defaultdict[tuple[str, int, str], list[DayUse]](list)
        for one in days:
            by_prompt[one.prompt, one.version, one.model].append(one)
        return site.page(
            "ai_use.html", span=span, block=block, days=by_day, whole=totals_of(days, block), over=over, causes=causes.most_common(),
            handed=handed, prompts=[(key, totals_of(rows, block)) for key, rows in sorted(by_prompt.items())], spent=spent.tokens,
            percent=min(100, spent.tokens * 100 // block.per_day_tokens), overdue=sum(one.overdue for one in over),
        )  # fmt: skip

    return pages


def _can_tell(kind: str) -> bool:
    adapter = next((one for known, one in adapters().items() if known == kind), None)
    return adapter is not None and adapter.notice is not None


def _titles(company: Tenant) -> dict[str, str]:
    """What integrations are called."""
    known = {str(kind): one.title for kind, one in adapters().items()}
    found = {**known}
    for key in company.integrations:
        kind = kind_of(key)
        title, name = known.get(kind, kind), key.partition(":")[2]
        found[str(key)] = f"{title}: {name}" if name else title
    return found


def _by_field(refused: Invalid) -> dict[str, Mapping[str, str]]:
    """The first problem of each field."""
    found: dict[str, Mapping[str, str]] = {}
    for path, text in refused.problems:
        name = path.partition("[")[0]
        found.setdefault(name if name in FIELDS else _above(name), dict(texts_of(text)))
    return found


def _above(path: str) -> str:
    """The field that holds a setting without one of its own."""
    return next((name for name in FIELDS if name.startswith(f"{path}.") or path.startswith(f"{name}.")), FIELDS[0])
