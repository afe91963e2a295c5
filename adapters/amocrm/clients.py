"""The account's side of a call: whose number it is, and what becomes of a number that is nobody's.

    the account's own match by 10 digits -> every other spelling, contacts and companies -> found -> it
                                                     nobody -> by setting: an incoming lead, a contact, a contact and lead

One number is looked for by one attempt at a time, and who was made lately is remembered, because the search of a large account
lags: a caller who calls twice at once becomes one record. An incoming lead cannot be found by the search until somebody has
accepted it, so those that wait are looked through by their numbers. Read `calls.py` for who uses it, `requests.py` for the requests.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.fields import written
from adapters.amocrm.requests import Client, Employee, Entity
from adapters.amocrm.settings import AmoSettings
from adapters.base import Attempt
from adapters.batching import Batches
from adapters.turns import Turns
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected

LATELY_S = 900.0
FRUITLESS_S = 20.0
"""For how long a search that found nobody is not repeated: an attempt that had to wait, or failed later on, goes on where it was."""
_MATCH = "match"
"""The account's own match of a call, among searches."""
MOST_LATELY = 2000
MOST_WAITING_PAGES = 4


class ClientRecords:
    """Of one account."""

    def __init__(self, account: Account, tenant: Tenant, settings: AmoSettings) -> None:
        self._account = account
        self._tenant = tenant
        self._settings = settings
        self.turns = Turns()
        """By number: within a turn nobody else looks for it, or makes a record of it."""
        self._asked: Batches[None, list[Mapping[str, Any]]] = Batches(
            self._read_waiting, trio.lowlevel.checkpoint, codec.PAGE
        )
        self._fruitless: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lately: OrderedDict[str, tuple[Entity, float]] = OrderedDict()

    def made_lately(self, phone: str) -> Entity | None:
        """Who was made of this number in the last minutes."""
        found = self._lately.get(phone)
        return found[0] if found is not None and trio.current_time() - found[1] < LATELY_S else None

    def is_nobody_s(self, phone: str) -> bool:
        """Whether the account has just said that nobody has this number."""
        return self._is_fruitless(_MATCH, phone)

    def note_nobody_s(self, phone: str) -> None:
        """The account has said so."""
        self._note_fruitless(_MATCH, phone)

    @contextmanager
    def making(self, phones: Sequence[str]) -> Iterator[None]:
        """Within it somebody is made of these numbers. However it fails, they may be there: all is looked for anew."""
        made = False
        try:
            yield
            made = True
        finally:
            for phone in () if made else phones:
                for kind in requests.TYPES:
                    for query in requests.queries(phone, self._tenant.country):
                        self._fruitless.pop((kind, query), None)
                self._fruitless.pop((_MATCH, phone), None)

    def _is_fruitless(self, kind: str, query: str) -> bool:
        return trio.current_time() - self._fruitless.get((kind, query), -FRUITLESS_S) < FRUITLESS_S

    def _note_fruitless(self, kind: str, query: str) -> None:
        self._fruitless[kind, query] = trio.current_time()
        self._fruitless.move_to_end((kind, query))
        while len(self._fruitless) > MOST_LATELY:
            self._fruitless.popitem(last=False)

    def forget(self, phone: str) -> None:
        """It is not there any more."""
        self._lately.pop(phone, None)

    @property
    def country(self) -> str:
        """In which numbers are read."""
        return self._tenant.country

    def remember(self, phone: str, entity: Entity) -> Entity:
        """Somebody was made of this number."""
        self._lately[phone] = entity, trio.current_time()
        self._lately.move_to_end(phone)
        while len(self._lately) > MOST_LATELY:
            self._lately.popitem(last=False)
        return entity

    async def find(self, phone: str, attempt: Attempt | None = None, *, missed: bool = False) -> list[Client]:
        """Whose number it is; the first that was made first. Contacts before companies. `missed`: see `requests.queries`."""
        country = self._tenant.country
        missed = missed and self._settings.search == "rest"
        for kind in requests.TYPES:
            for query in requests.queries(phone, country, missed=missed):
                if self._is_fruitless(kind, query):
                    continue
                address = requests.path(f"{requests.API}/{kind}", query=query, limit=codec.PAGE)
                answer = await self._account.call("GET", address, attempt=attempt)
                if found := requests.clients_in(answer, kind, phone, country):
                    return found
                self._note_fruitless(kind, query)
        return []

    async def make(
        self,
        attempt: Attempt,
        body: Mapping[str, Any],
        uniq: str,
        employee: Employee,
        create: str,
        fields: Mapping[str, Any],
    ) -> tuple[Entity | None, bool]:
        """What becomes of somebody unknown, as `create` says; None for nothing. The second: the call stands in it already."""
        with self.making([str(body["phone"])]):
            return await self._make(attempt, body, uniq, employee, create, fields)

    async def _make(
        self, attempt: Attempt, body: Mapping[str, Any], uniq: str, employee: Employee, create: str, fields: Mapping[str, Any]
    ) -> tuple[Entity | None, bool]:  # fmt: skip
        phone = str(body["phone"])
        match create:
            case "unsorted":
                return await self._unsorted(attempt, body, uniq, employee, fields)
            case "contact":
                one = _mapped(fields, requests.contact(phone, employee.user_id, uniq))
                made = await self._created(attempt, f"{requests.API}/contacts", requests.CONTACTS, one)
            case "lead":
                one = _mapped(fields, requests.lead(phone, employee.user_id, uniq, self._settings))
                made = await self._created(attempt, f"{requests.API}/leads/complex", requests.LEADS, one)
            case _:
                return None, False
        return self.remember(phone, made), False

    async def _created(self, attempt: Attempt, address: str, kind: str, one: Mapping[str, Any]) -> Entity:
        try:
            answer: Any = await self._account.call("POST", address, [one], attempt=attempt)
        except codec.Refused as error:
            if "responsible_user_id" not in one or not error.about_user():
                raise
            answer = await self._account.call("POST", address, [_unowned(one)], attempt=attempt)
        # The answer to a lead with its contact is a plain list.
        found = codec.embedded(answer, kind) or [codec.mapping(each) for each in codec.items(answer.get(codec.PLAIN))]
        for each in found:
            if number := codec.identifier(each.get("id")):
                return Entity(kind, number)
        raise Rejected(f"POST {address} named nothing that it made")

    async def _unsorted(
        self, attempt: Attempt, body: Mapping[str, Any], uniq: str, employee: Employee, fields: Mapping[str, Any]
    ) -> tuple[Entity | None, bool]:
        phone = str(body["phone"])
        for waiting in await self.waiting():
            if requests.is_of(waiting, phone, self._tenant.country) and (entity := requests.entity_in(waiting)):
                here = codec.text(codec.mapping(waiting.get("metadata")).get("uniq")) == uniq
                return self.remember(phone, entity), here
        one = requests.unsorted(body, uniq, employee, self._settings, written(fields))
        try:
            answer = await self._account.call("POST", requests.SIP, [one], attempt=attempt)
        except codec.Refused as error:
            if not error.about_user():
                raise
            nameless = Employee(name=str(body.get("name", "")))
            one = requests.unsorted(body, uniq, nameless, self._settings, written(fields))
            answer = await self._account.call("POST", requests.SIP, [one], attempt=attempt)
        found = codec.by_request(answer, "unsorted", uniq)
        if found is None:
            raise Rejected(f"POST {requests.SIP} named nothing that it made")
        made = requests.entity_in(found)
        return (self.remember(phone, made) if made is not None else None), True

    async def waiting(self) -> list[Mapping[str, Any]]:
        """The incoming leads that are calls and wait for somebody, the latest first: read once for all who ask together."""
        return await self._asked.one(None)

    async def _read_waiting(self, asked: Sequence[None]) -> Sequence[list[Mapping[str, Any]]]:
        found = await self._account.pages(requests.unsorted_page, "unsorted", most=MOST_WAITING_PAGES)
        return [found for _ in asked]

    async def contact_of(self, phone: str, attempt: Attempt) -> Entity | None:
        """The contact of somebody whom the search does not find yet: made lately, or waiting among the incoming leads."""
        entity = self.made_lately(phone)
        if entity is not None and entity.type == requests.LEADS:
            address = requests.path(f"{requests.API}/leads/{entity.id}", with_="contacts")
            entity = requests.contact_in(await self._account.call("GET", address, attempt=attempt))
        if entity is None and self._settings.create == "unsorted":
            waits = (one for one in await self.waiting() if requests.is_of(one, phone, self._tenant.country))
            entity = next((found for one in waits if (found := requests.contact_in(one)) is not None), None)
        return entity

    async def owner(self, entity: Entity, attempt: Attempt) -> str:
        """The id of the user who is responsible; empty where nobody is, or it is gone."""
        try:
            answer = await self._account.call("GET", f"{requests.API}/{entity.type}/{entity.id}", attempt=attempt)
        except Rejected:
            return ""
        return codec.identifier(answer.get("responsible_user_id"))


def _mapped(fields: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What is made of a call, with the mapped fields of the call."""
    return {**plain, **written(fields, codec.items(plain.get("custom_fields_values")))}


def _unowned(one: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the user who is not there any more."""
    plain = {name: value for name, value in one.items() if name != "responsible_user_id"}
    if contacts := codec.embedded(plain, "contacts"):
        plain["_embedded"] = {"contacts": [_unowned(contact) for contact in contacts]}
    return plain
