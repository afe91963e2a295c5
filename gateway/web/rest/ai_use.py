"""`/ai/use`: what the AI operator was used for, by day, prompt version and model, and why conversations went to people."""

from datetime import date, datetime, timedelta
from decimal import Decimal

from pydantic import ConfigDict, Field, ValidationError

from gateway.domain.ai import AiBlock, settings_of
from gateway.domain.configuration import Tenant
from gateway.store.ai_answers import select_use
from gateway.store.ai_use import select_day_hand_overs, select_day_use
from gateway.web.content.problems import refuse
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Model, Shown

DAYS, MOST_DAYS = 14, 92


class UseQuery(Model):
    """Which days."""

    since: date | None = Field(None, description="the first day, in the company's time zone; default: two weeks")
    until: date | None = Field(None, description=f"the last day; default: today. At most {MOST_DAYS} days in all")


class DayItem(Shown):
    """One day, one version of a prompt and one model."""

    day: date
    prompt: str
    version: int
    model: str
    answers: int = Field(description="that clients got")
    not_sent: int = Field(description="overtaken by a newer message or a person, failed, or ended with a hand-over")
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None = Field(description="the median of the answers that clients got")
    cost: Decimal | None = Field(description="by the price in the settings; null where none is entered")


class HandOversItem(Shown):
    """Conversations that went to people on a day."""

    day: date
    cause: str = Field(description="asked, model, failed, limit, prompt or abuse")
    reason: str
    conversations: int
    overdue: int = Field(description="those that nobody took in time")


class UseItem(Shown):
    """The use of the AI operator."""

    model_config = ConfigDict(frozen=True)

    since: date
    until: date
    currency: str | None = Field(description="of the cost")
    tokens_today: int
    per_day_tokens: int = Field(description="the budget of a day")
    days: list[DayItem]
    hand_overs: list[HandOversItem]


def _settings(tenant: Tenant) -> AiBlock:
    try:
        return settings_of(tenant.options, {})
    except ValidationError:
        return AiBlock()


def ai_use(deps: RestDeps) -> list[Endpoint]:
    """The endpoint."""

    async def show(call: Call) -> UseItem:
        sent: UseQuery = call.query
        tenant, block = call.tenant, _settings(call.tenant)
        today = datetime.now(tenant.timezone).date()
        until = sent.until or today
        sense = 2000 <= until.year < 2200
        since = sent.since or (until - timedelta(days=DAYS - 1) if sense else until)
        if not (sense and 0 <= (until - since).days < MOST_DAYS):
            raise refuse(
                "since",
                f"1 to {MOST_DAYS} days up to `until` are expected",
                f"нужно от 1 до {MOST_DAYS} дней до `until`",
            )
        between = (tenant.number, since, until, tenant.timezone.key)
        days = await deps.db.tenant(tenant.number, select_day_use, *between)
        over = await deps.db.tenant(tenant.number, select_day_hand_overs, *between)
        spent = await deps.db.tenant(tenant.number, select_use, tenant.number, today)
        price = block.price
        return UseItem(
            since=since, until=until, currency=price.currency if price.known else None, tokens_today=spent.tokens,
            per_day_tokens=block.per_day_tokens,
            days=[
                DayItem(
                    day=one.day, prompt=one.prompt, version=one.version, model=one.model, answers=one.sent, not_sent=one.others,
                    prompt_tokens=one.prompt_tokens, completion_tokens=one.completion_tokens, first_token_ms=one.first_token_ms,
                    cost=price.cost(one.prompt_tokens, one.completion_tokens) if price.known else None,
                )
                for one in days
            ],
            hand_overs=[
                HandOversItem(day=one.day, cause=one.cause, reason=one.reason, conversations=one.count, overdue=one.overdue)
                for one in over
            ],
        )  # fmt: skip

    return [
        Endpoint(method="GET", path="/ai/use", operation=show, scopes=("read",), query=UseQuery, answer=UseItem,
                 problems={422: "days that make no sense"}, summary="What the AI operator was used for, by day, prompt version and model"),
    ]  # fmt: skip
