"""Settings that every CRM has beside those of its account. Pure."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from adapters.base import AdapterSettings, BadValue, setting
from adapters.http_settings import HttpSettings
from adapters.mapping import MOST_RULES, MappingRule, check_rules
from gateway.domain.crm_sources import WHENS

_EVENTS = frozenset({"in", "out", "hangup", "upload"})


def _without(given: Any, model: type[AdapterSettings], common: frozenset[str]) -> Any:
    """What was entered, less the names of `common` that mean nothing in this class."""
    if not isinstance(given, Mapping):
        return given
    known = {info.alias or name for name, info in model.model_fields.items()} | model.model_fields.keys()
    return {name: value for name, value in given.items() if name not in common or name in known}


class SentEvents(AdapterSettings):
    """Base of what each CRM may be sent about calls. A switch that all CRMs have, and that means nothing here, may stand in a
    tenant file all the same."""

    @model_validator(mode="before")
    @classmethod
    def _not_here(cls, given: Any) -> Any:
        return _without(given, cls, _EVENTS)


class CrmSettings(HttpSettings):
    """Base of the settings classes of CRMs. One that never calls us takes a `hook_id` from a tenant file, and leaves it out."""

    MAPS: ClassVar[tuple[str, ...]] = WHENS
    """What rules of `mapping` may be for; a CRM that takes fewer says so."""

    primary: bool = setting(
        False,
        en="Main CRM for bots",
        ru="Основная CRM для ботов",
        help_en="Where several CRMs are on: the one that bots work with. Otherwise the first",
        help_ru="Если включено несколько CRM: та, с которой работают боты. Иначе первая",
        advanced=True,
    )
    sync_contacts: bool = setting(
        True,
        en="Clients of chats go into the CRM",
        ru="Клиенты из чатов попадают в CRM",
        help_en="As soon as a phone or e-mail is known; found there before one is made. A closed or handed over chat becomes a note",
        help_ru="Как только известен телефон или почта; сначала ищутся там, потом создаются. Закрытый или переданный чат становится заметкой",
    )
    sync_orders: bool = setting(
        True,
        en="Orders go into the CRM",
        ru="Заказы попадают в CRM",
        help_en="Made there when they are made here, and moved with their status",
        help_ru="Создаются там вместе с нашими и движутся вслед за их статусом",
    )
    mapping: tuple[MappingRule, ...] = setting(
        (),
        en="Field mapping",
        ru="Соответствие полей",
        help_en="Which of our values the CRM gets in which of its fields: one rule a line, as the page of fields writes them",
        help_ru="Какие наши значения в какие поля CRM записывать: одно правило в строке, как их записывает страница полей",
        advanced=True,
        stored=True,
        widget="rules",
        max_length=MOST_RULES,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_hook(cls, given: Any) -> Any:
        return _without(given, cls, frozenset({"hook_id"}))

    @field_validator("mapping", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Also what is null: no rules."""
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise BadValue(
                "a list of rules is expected, each such as {when: order, to: STAGE_ID, from: order.status}",
                "нужен список правил, каждое вида {when: order, to: STAGE_ID, from: order.status}",
            )
        return value

    @field_validator("mapping")
    @classmethod
    def _rules(cls, value: tuple[MappingRule, ...]) -> tuple[MappingRule, ...]:
        return check_rules(value, cls.MAPS)
