"""People hear of trouble: a message when it begins, one when it is over, a reminder a day, at most six messages an hour.

    slots and deliveries -> troubles -> rows -> what is due -> one message, stored with the rows it is about -> delivery or mail

Each instance looks at its own companies; the one that owns the operators' shard at the installation. What is stored decides what
is told, so a restart repeats and loses nothing. Read `gateway/domain/notices.py` for when a message is due.
"""

import json
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from actors.connections import SlotAt, connections_of, own_troubles
from actors.runtime.directory import Slot
from actors.services import Services
from adapters.base import Adapter
from gateway.domain import notices as domain
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import OPERATOR, Kind, TenantId
from gateway.domain.notices import Due, Trouble
from gateway.domain.statuses import Connection, Standing, troubles_of
from gateway.domain.text import Bilingual
from gateway.smtp import Smtp
from gateway.store import notices as store
from gateway.store.integration_states import select_known_of
from gateway.store.notices import Message
from gateway.store.postgres.pool import Connection as DatabaseConnection
from gateway.store.postgres.pool import Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)
OWN_WORK = Bilingual("Texts of calls", "Тексты разговоров")
"""What the trouble of an actor that makes them is called."""

LOOK_S = 15.0
BACKLOG_S = 15 * 60.0
BACKLOG_MANY = 500
MAILS_EVERY_S = 2.0
MAILS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is told of what."""

    places: tuple[tuple[Kind, str], ...] = ()
    """An adapter's kind, and a place of its outside system."""
    emails: tuple[str, ...] = ()
    when: frozenset[str] = frozenset(domain.KINDS)

    @classmethod
    def of(cls, values: Mapping[str, object], adapters: Mapping[Kind, Adapter]) -> "Plan":
        """Of `notify` of a company's options or of the operators' file, where it was checked."""

        def texts(name: str) -> tuple[str, ...]:
            found = values.get(name, ())
            return tuple(map(str, found)) if isinstance(found, list | tuple) else ()

        places = [(kind, place) for kind, one in adapters.items() if one.notice is not None for place in texts(kind)]
        return cls(
            tuple(places), texts("email"), frozenset(texts("when")) if "when" in values else frozenset(domain.KINDS)
        )


def messages_about(connections: Iterable[Connection]) -> list[Trouble]:
    """What is wrong with the PBXes and integrations of a company. One that works with problems is on its pages alone."""
    found = []
    for one in troubles_of(connections):
        status = one.status
        if status.standing is Standing.ACTIVE:
            continue
        kind: domain.Kind = "pbx_offline" if one.is_pbx else "error" if status.standing is Standing.ERROR else "pending"
        key = f"{kind} {'pbx' if one.is_pbx else 'integration'}/{one.name}"
        found.append(Trouble(key, kind, one.title, " ".join(filter(None, (status.code, status.detail)))))
    return found


def messages_about_own(tenant: Tenant, slot_at: SlotAt) -> list[Trouble]:
    """What is wrong with work of a company that is no connection."""
    return [
        Trouble(
            f"error {slot.path.rpartition('/')[2]}", "error", OWN_WORK.texts[tenant.language],
            " ".join(filter(None, (slot.health.code, slot.health.detail))),
        )
        for slot in own_troubles(tenant.number, slot_at)
    ]  # fmt: skip


def installation_troubles(slots: Iterable[Slot]) -> list[Trouble]:
    """What is wrong with the shared parts of the installation."""
    found = []
    for slot in slots:
        health = slot.health
        if health.state.troubled:
            kind: domain.Kind = "certificate" if health.code.startswith("certificate_") else "error"
            detail = " ".join(filter(None, (health.code, health.detail)))
            found.append(Trouble(f"{kind} {slot.path}", kind, slot.title or slot.path, detail))
    return found


class Notices:
    """Runs until cancelled. `slots` asks every instance for the actors below a path."""

    def __init__(
        self, services: Services, adapters: Mapping[Kind, Adapter], slots: Callable[[str], Awaitable[Sequence[Slot]]], *,
        mail: bool, title: str = "Gateway", operators: Plan | None = None, through: TenantId | None = None,
    ) -> None:  # fmt: skip
        self._services = services
        self._adapters = adapters
        self._slots = slots
        self._mail = mail
        self._title = title
        self._operators = operators
        self._through = through

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        slot.report(State.ONLINE)
        while True:
            await trio.sleep(LOOK_S * random.uniform(0.9, 1.1))
            try:
                await self.look()
                slot.report(State.ONLINE)
            except Unavailable as error:
                slot.report(State.DEGRADED, "database_away", error.detail)

    async def look(self) -> None:
        """One look at everything of ours. Raises Unavailable."""
        services, plans = self._services, dict[TenantId, Plan]()
        for number, tenant in services.cache.tenants().items():
            notify = tenant.options.get("notify")
            if isinstance(notify, Mapping) and services.ownership.epoch_of(number) is not None:
                plans[number] = Plan.of(notify, self._adapters)
        troubles: defaultdict[TenantId, list[Trouble]] = defaultdict(list)
        titles: dict[tuple[TenantId, str], str] = {}
        if plans:
            known = await services.db.engine(select_known_of, list(plans))
            for number in plans:
                if (current := services.cache.tenant(number)) is not None:
                    found = connections_of(current, services.directory.get, known.get(number, {}))
                    troubles[number] += messages_about(found)
                    troubles[number] += messages_about_own(current, services.directory.get)
                    titles |= {(number, one.name): one.title for one in found if not one.is_pbx}
            for number, key, count, since in await services.db.engine(
                store.select_backlogs, list(plans), BACKLOG_S, BACKLOG_MANY
            ):
                detail = f"{count}, {since:%Y-%m-%d %H:%M} UTC"
                troubles[number].append(
                    Trouble(f"backlog integration/{key}", "backlog", titles.get((number, key), key), detail)
                )
        stored = await services.db.engine(store.select_in_trouble, [*plans, OPERATOR])
        for number, plan in plans.items():
            wanted = [one for one in troubles[number] if one.kind in plan.when]
            if not wanted and number not in stored:
                continue
            company = services.cache.tenant(number)
            if company is not None:
                await services.db.engine(_look_at, number, wanted, self._messages(plan, company))
        if self._operators is not None and services.ownership.epoch_of(OPERATOR) is not None:
            wanted = [
                one for one in installation_troubles(await self._slots("system")) if one.kind in self._operators.when
            ]
            if wanted or OPERATOR in stored:
                await services.db.engine(_look_at, OPERATOR, wanted, self._operators_messages(self._operators))

    def _messages(self, plan: Plan, tenant: Tenant) -> Callable[[Due, str], list[Message]]:
        url = f"{self._services.public_url.rstrip('/')}/t/{tenant.number}/integrations"
        return lambda found, key: self._made(
            plan, tenant, tenant.number, f"{tenant.name} ({tenant.number})", url, found, key
        )

    def _operators_messages(self, plan: Plan) -> Callable[[Due, str], list[Message]]:
        through = self._services.cache.tenant(self._through) if self._through is not None else None
        url = f"{self._services.public_url.rstrip('/')}/operators/actors"
        return lambda found, key: self._made(plan, through, OPERATOR, self._title, url, found, key)

    def _made(
        self, plan: Plan, through: Tenant | None, number: TenantId, name: str, url: str, found: Due, key: str
    ) -> list[Message]:
        language = through.language if through is not None else "en"
        subject, text = domain.subject_of(found, name, language), domain.text_of(found, name, url, language)
        return made_for(plan, self._adapters, through, number, key, subject, text, mail=self._mail)


def made_for(
    plan: Plan, adapters: Mapping[Kind, Adapter], through: Tenant | None, number: TenantId, key: str, subject: str, text: str, *,
    mail: bool,
) -> list[Message]:  # fmt: skip
    """The messages that tell everybody of a plan; by the integrations of `through`."""
    made = [Message(number, key, recipient=address, subject=subject, body=text) for address in plan.emails if mail]
    for kind, place in plan.places:
        adapter, link = adapters.get(kind), None
        if through is not None:
            link = next((one for one in through.of_kind(kind) if one.enabled), None)
        if adapter is None or adapter.notice is None or link is None or through is None:
            continue
        body = json.dumps(dict(adapter.notice(place, text)), ensure_ascii=False)
        made.append(Message(through.number, f"notice {number} {place} {key}", link.key, body))
    return made


async def _look_at(
    conn: DatabaseConnection,
    number: TenantId,
    troubles: Sequence[Trouble],
    messages: Callable[[Due, str], list[Message]],
) -> None:
    """One look at one company: one transaction."""
    async with conn.transaction():
        notices, sent, now = await store.note_troubles(conn, number, troubles)
        found = domain.due(notices, now)
        if found and not domain.has_room(sent, now):
            COUNTERS["notices_held_back"] += 1
            found = Due(forgotten=found.forgotten)  # they stay due, and go into one message when there is room
        if found or found.forgotten:
            made = messages(found, f"{now:%Y-%m-%dT%H:%M:%S.%fZ}") if found else []
            await store.note_told(conn, number, found, made)
            COUNTERS["notices_sent"] += bool(made)


class Mails:
    """Sends the letters that are stored, with as many tries as they need."""

    def __init__(self, db: Database, smtp: Smtp) -> None:
        self._db = db
        self._smtp = smtp

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        while True:
            try:
                problem = await self.send_due()
                slot.report(State.DEGRADED if problem else State.ONLINE, "mail_away" if problem else "", problem)
            except Unavailable as error:
                slot.report(State.DEGRADED, "database_away", error.detail)
            await trio.sleep(MAILS_EVERY_S)

    async def send_due(self) -> str:
        """Sends what is due. Returns why the last one could not be sent, if so."""
        problem = ""
        for mail in await self._db.engine(store.claim_mails, MAILS_AT_ONCE):
            try:
                await self._smtp.send(mail.recipient, mail.subject, mail.body)
            except Unavailable as error:
                problem = error.detail
                pause = min(1800.0, 15.0 * 2.0 ** min(mail.attempt - 1, 10)) * random.uniform(0.8, 1.2)
                if not await self._db.engine(store.put_off_mail, mail, pause, problem):
                    log.error(
                        "a letter could not be sent in two days", extra={"tenant": mail.tenant, "reason": problem}
                    )
                continue
            except GatewayError as error:
                problem = error.detail
                log.warning("a letter was refused", extra={"tenant": mail.tenant, "reason": problem})
            await self._db.engine(store.delete_mail, mail)
        return problem
