"""The settings of one link to a HubSpot account. Owns the fields, their labels and what makes a value valid.

An account is reached by the token of a private app, or by an app to which a person gives access (`login.py`). Where both are
there the token is used. Where HubSpot's own documents leave a fact open, a setting names both ways (`repeats`, `missed_status`,
`recordings`); the connection test says which one is in force. Never calls HubSpot. Read `plan.py` next.
"""

import re
from typing import Any, Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from adapters.base import BadValue, setting
from adapters.crm_settings import CrmSettings, SentEvents
from adapters.unique_settings import refused_field
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual

_PROPERTY = r"^([a-z][a-z0-9_]{0,99})?$"


class SendEvents(SentEvents):
    """Which messages are sent."""

    upload: bool = setting(True, en="Calls are logged in the CRM", ru="Звонки записываются в CRM")


class HubSpotSettings(CrmSettings):
    """How one tenant's account is reached, and what it receives."""

    api_key: Secret | None = setting(
        None,
        en="Token of the private app",
        ru="Токен приватного приложения",
        help_en="From Settings, Integrations, Private apps of HubSpot. Its scopes are listed on this page. Empty: connect an app",
        help_ru="Из HubSpot: Settings, Integrations, Private apps. Нужные права перечислены на этой странице. Пусто: подключите приложение",
        secret=True,
        placeholder="pat-eu1-…",
    )
    client_id: str = setting(
        "",
        en="App's client id",
        ru="Client ID приложения",
        help_en="Without a token: of an app with OAuth. Empty where the installation has one of its own",
        help_ru="Без токена: приложения с OAuth. Пусто, если приложение есть у самой установки",
        pattern=r"^[0-9A-Za-z._-]{0,128}$",
    )
    client_secret: Secret | None = setting(None, en="App's client secret", ru="Client secret приложения", secret=True)
    create: Literal["contact", "none"] = setting(
        "contact",
        en="An unknown number becomes",
        ru="Неизвестный номер становится",
        options={
            "contact": {"en": "A contact", "ru": "Контактом"},
            "none": {"en": "Nothing", "ru": "Ничем"},
        },
    )
    lifecycle_stage: str = setting(
        "",
        en="Lifecycle stage of new contacts",
        ru="Этап жизненного цикла новых контактов",
        help_en="Its internal name, such as lead. Empty: as HubSpot sets it",
        help_ru="Внутреннее имя, например lead. Пусто: как решит HubSpot",
        advanced=True,
        pattern=r"^[0-9A-Za-z_-]{0,100}$",
    )
    missed_task: bool = setting(
        True, en="A task for a missed call", ru="Задача по пропущенному звонку",
    )  # fmt: skip
    task_minutes: int = setting(
        60, en="Minutes until the task is due", ru="Минут до срока задачи", advanced=True, ge=1, le=43200
    )
    recordings: Literal["link", "plain", "notes", "none"] = setting(
        "link",
        en="Recordings",
        ru="Записи разговоров",
        help_en="HubSpot plays them from our public address. Where its player shows none, choose another way",
        help_ru="HubSpot проигрывает их с нашего публичного адреса. Если плеер не появился, выберите другой способ",
        options={
            "link": {"en": "A link in the call", "ru": "Ссылка в звонке"},
            "plain": {"en": "A link, without naming the source", "ru": "Ссылка, без указания источника"},
            "notes": {"en": "A link in the notes of the call", "ru": "Ссылка в описании звонка"},
            "none": {"en": "Not sent", "ru": "Не отправлять"},
        },
    )
    default_owner: str = setting(
        "",
        en="Owner of calls of nobody",
        ru="Владелец ничьих звонков",
        help_en="The id of the owner who gets calls that rang at nobody's phone or at one that no owner has. Empty: nobody",
        help_ru="Идентификатор владельца (owner), к которому попадают звонки, не дошедшие до сотрудника из списка. Пусто: ни к кому",
        advanced=True,
        pattern=r"^[0-9]{0,18}$",
    )
    call_field: str = setting(
        "gw_call_id",
        en="Property with our id of a call",
        ru="Свойство звонка с нашим идентификатором",
        help_en="Made by itself where the app may. Empty: a call is told by its time and numbers",
        help_ru="Создаётся само, если приложению можно. Пусто: звонок узнаётся по времени и номерам",
        advanced=True,
        pattern=_PROPERTY,
    )
    contact_field: str = setting(
        "gw_phone",
        en="Property with the number of a contact of ours",
        ru="Свойство контакта с номером, по которому мы его создали",
        help_en="With unique values, made by itself where the app may: two contacts of one number cannot be made. Empty: without it",
        help_ru="С уникальными значениями, создаётся само, если приложению можно: двух контактов одного номера не будет. Пусто: без него",
        advanced=True,
        pattern=_PROPERTY,
    )
    deal_field: str = setting(
        "gw_order_id",
        en="Property of a deal with our id of an order",
        ru="Свойство сделки с нашим идентификатором заказа",
        help_en="With unique values, made by itself where the app may. Empty: a deal is told by its name",
        help_ru="С уникальными значениями, создаётся само, если приложению можно. Пусто: сделка узнаётся по названию",
        advanced=True,
        pattern=_PROPERTY,
    )
    repeats: Literal["auto", "unique", "search"] = setting(
        "auto",
        en="How a repeated call is recognised",
        ru="Как узнаётся повтор звонка",
        help_en="HubSpot does not say whether calls may have unique properties. By itself: as it turns out; the test shows it",
        help_ru="HubSpot не говорит, бывают ли у звонков уникальные свойства. Само: как окажется; проверка подключения это покажет",
        advanced=True,
        options={
            "auto": {"en": "By itself", "ru": "Само"},
            "unique": {"en": "By the unique property", "ru": "По уникальному свойству"},
            "search": {"en": "By searching", "ru": "Поиском"},
        },
    )
    search_lag_s: int = setting(
        30,
        en="Seconds until a new record can be found",
        ru="Секунд до появления записи в поиске",
        help_en="Before a repeat that only a search can recognise we wait for so long",
        help_ru="Столько ждём перед повтором, который узнаётся только поиском",
        advanced=True,
        ge=0,
        le=300,
    )
    missed_status: Literal["auto", "MISSED", "NO_ANSWER"] = setting(
        "auto",
        en="Status of a missed call",
        ru="Статус пропущенного звонка",
        help_en="By itself: MISSED where the account has it, else NO_ANSWER",
        help_ru="Само: MISSED, если он есть в аккаунте, иначе NO_ANSWER",
        advanced=True,
        options={
            "auto": {"en": "By itself", "ru": "Само"},
            "MISSED": {"en": "MISSED", "ru": "MISSED"},
            "NO_ANSWER": {"en": "NO_ANSWER", "ru": "NO_ANSWER"},
        },
    )
    pipeline: str = setting(
        "",
        en="Pipeline of orders",
        ru="Воронка заказов",
        help_en="The id of the pipeline in which orders become deals. Empty: the first",
        help_ru="Идентификатор воронки (pipeline), в которой заказы становятся сделками. Пусто: первая",
        advanced=True,
        pattern=r"^[0-9A-Za-z_-]{0,100}$",
    )
    portal_id: str = setting(
        "",
        en="Account (Hub ID)",
        ru="Аккаунт (Hub ID)",
        help_en="The account's number; filled in when an app is connected",
        help_ru="Номер аккаунта; заполняется при подключении приложения",
        advanced=True,
        stored=True,
        pattern=r"^[0-9]{0,18}$",
    )
    send_events: SendEvents = setting(en="What is sent", ru="Что отправлять", default_factory=SendEvents)

    @field_validator("api_key", "client_secret", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("api_key", "client_secret")
    @classmethod
    def _visible(cls, value: Secret | None, info: ValidationInfo) -> Secret | None:
        if value is None:
            return None
        text = value.reveal().strip()
        if not re.fullmatch(r"[!-~]{1,500}", text):
            raise BadValue(
                "it has a space or a letter that cannot be in it", "есть пробел либо буква, которых в нём быть не может"
            )
        return Secret(text)

    @model_validator(mode="after")
    def _unique_of_what(self) -> Self:
        if self.repeats == "unique" and not self.call_field:
            raise refused_field(type(self), "call_field", Bilingual(
                "name the property by which repeats are recognised", "назовите свойство, по которому узнаются повторы",
            ))  # fmt: skip
        return self
