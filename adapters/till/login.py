"""Choosing the place: the organizations of the login, then the terminal groups of the chosen one. What there is only one of is chosen
by itself. Nothing is traded: the login is in the settings. Read `places.py` for the lists.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from adapters.base import Link
from adapters.login import LoginDone, LoginPlace, LoginStep
from adapters.till.client import connect
from adapters.till.places import Place, Places
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.errors import BadSettings, Rejected

ORGANIZATION, TERMINAL_GROUP = "organization", "terminal_group"
ANY = "any"
_TITLES: Mapping[str, Mapping[str, str]] = {
    ORGANIZATION: {"en": "Choose the organization", "ru": "Выберите организацию"},
    TERMINAL_GROUP: {"en": "Choose the terminal group", "ru": "Выберите группу терминалов"},
}
_TEXTS: Mapping[str, Mapping[str, str]] = {
    ORGANIZATION: {
        "en": "The restaurants that this access is for.",
        "ru": "Рестораны, к которым есть доступ.",
    },
    TERMINAL_GROUP: {
        "en": "The tills that get orders and attentions. “—” leaves the choice to the restaurant cloud; then we cannot see whether the till is there.",
        "ru": "Кассы, которые получают заказы и уведомления. «—» оставляет выбор облаку; тогда мы не видим, на связи ли касса.",
    },
}
MOST = 200
"""Places to choose from; whoever has more enters the id."""


class TillLogin:
    """One choice after the other."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def begin(self) -> LoginStep | LoginDone:
        """The organizations."""
        found = await self._places.organizations()
        if not found:
            raise BadSettings("no organizations", person=REASONS["nowhere"])
        if len(found) == 1:
            return await self._groups(found[0].id)
        return _step(ORGANIZATION, found)

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """Takes a choice."""
        chosen = str(values.get("choice", ""))
        if step == ORGANIZATION:
            if all(one.id != chosen for one in await self._places.organizations()):
                raise Rejected("no organization of this login", person=REASONS["choose"])
            return await self._groups(chosen)
        organization = str(state.get(ORGANIZATION, ""))
        known = {ANY, *(one.id for one in await self._places.terminal_groups(organization))}
        if chosen not in known:
            raise Rejected("no terminal group of this organization", person=REASONS["choose"])
        return _done(organization, "" if chosen == ANY else chosen)

    async def _groups(self, organization: str) -> LoginStep | LoginDone:
        found = await self._places.terminal_groups(organization)
        if len(found) < 2:
            return _done(organization, found[0].id if found else "")
        return _step(TERMINAL_GROUP, [*found, Place(ANY, "—")], **{ORGANIZATION: organization})


def _step(name: str, found: list[Place], **state: str) -> LoginStep:
    options = {one.id: one.name for one in found[:MOST]}
    return LoginStep(id=name, kind="choice", title=_TITLES[name], text=_TEXTS[name], options=options, state=state)


def _done(organization: str, terminal_group: str) -> LoginDone:
    return LoginDone(settings={"organization_id": organization, "terminal_group_id": terminal_group})


@asynccontextmanager
async def open_login(link: Link, settings: TillSettings, place: LoginPlace) -> AsyncIterator[TillLogin]:
    """A login."""
    async with connect(link, settings) as client:
        yield TillLogin(client.places)
