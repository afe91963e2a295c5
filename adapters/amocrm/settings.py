"""The settings of one link to an amoCRM or Kommo account. Owns the fields, their labels and what makes a value valid.

An account is reached with a long-lived token, or by an application to which a person gives access (`login.py`). Where both are
there the token is used. Only hosts of amoCRM and Kommo are accepted. Never calls the account. Read `plan.py` next.
"""

import re
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from adapters.base import BadValue, setting
from adapters.crm_settings import CrmSettings, SentEvents
from gateway.domain.secret import Secret

DOMAINS = ("amocrm.ru", "amocrm.com", "kommo.com")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")


def is_account_host(host: str) -> bool:
    """Whether a name is one of an account of amoCRM or Kommo."""
    return _HOST.fullmatch(host) is not None and any(host.endswith(f".{domain}") for domain in DOMAINS)


class SendEvents(SentEvents):
    """Which messages are sent."""

    in_: bool = setting(True, en="Card of an incoming call", ru="Карточка входящего звонка", alias="in")
    out: bool = setting(False, en="Card of an outgoing call", ru="Карточка исходящего звонка")
    upload: bool = setting(True, en="Call goes into amoCRM", ru="Звонок попадает в amoCRM")


class AmoSettings(CrmSettings):
    """How one tenant's account is reached, and what it receives."""

    subdomain: str = setting(
        en="Account",
        ru="Аккаунт",
        help_en="The first part of the account's address, such as june of june.amocrm.ru; in full for amocrm.com and kommo.com",
        help_ru="Первая часть адреса аккаунта, например june из june.amocrm.ru; для amocrm.com и kommo.com целиком",
        max_length=255,
        placeholder="june",
    )
    access_token: Secret | None = setting(
        None,
        en="Long-lived token",
        ru="Долгосрочный токен",
        help_en="From the integration's page in amoCRM, Keys and scopes. Empty: enter the application below, save and connect",
        help_ru="Со страницы интеграции в amoCRM, «Ключи и доступы». Пусто: введите приложение ниже, сохраните и подключите",
        secret=True,
    )
    client_id: str = setting(
        "",
        en="Integration ID",
        ru="ID интеграции",
        help_en="Of your integration in amoCRM; empty where the installation has one of its own",
        help_ru="Вашей интеграции в amoCRM; пусто, если интеграция есть у самой установки",
        pattern=r"^[0-9A-Za-z._-]{0,128}$",
    )
    client_secret: Secret | None = setting(None, en="Secret key", ru="Секретный ключ", secret=True)
    create: Literal["unsorted", "lead", "contact", "none"] = setting(
        "unsorted",
        en="An unknown number becomes",
        ru="Неизвестный номер становится",
        options={
            "unsorted": {"en": "An incoming lead (unsorted)", "ru": "Заявкой в «Неразобранном»"},
            "lead": {"en": "A contact with a lead", "ru": "Контактом и сделкой"},
            "contact": {"en": "A contact", "ru": "Контактом"},
            "none": {"en": "Nothing", "ru": "Ничем"},
        },
    )
    pipeline_id: str = setting(
        "",
        en="Pipeline",
        ru="Воронка",
        help_en="The id of the pipeline for new leads; empty: the main one. Unsorted must be switched on in it",
        help_ru="Идентификатор воронки для новых сделок; пусто: главная. В ней должно быть включено «Неразобранное»",
        advanced=True,
        pattern=r"^[0-9]{0,18}$",
    )
    show_card: bool = setting(True, en="Show the card of a call", ru="Показывать карточку звонка")
    attach_recordings: bool = setting(
        True,
        en="Add recordings",
        ru="Добавлять записи разговоров",
        help_en="As a link to our public address, when the file is there. amoCRM plays mp3",
        help_ru="Ссылкой на наш публичный адрес, когда файл готов. amoCRM проигрывает mp3",
    )
    link_at_once: bool = setting(
        False,
        en="Link before the file is there",
        ru="Ссылка раньше файла",
        help_en="Sends the link with the call. For accounts that do not let a call's note be changed later",
        help_ru="Ссылка уходит вместе со звонком. Для аккаунтов, где примечание о звонке нельзя изменить позже",
        advanced=True,
    )
    missed_task: bool = setting(True, en="A task for a missed call", ru="Задача по пропущенному звонку")
    task_minutes: int = setting(
        60, en="Minutes until the task is due", ru="Минут до срока задачи", advanced=True, ge=1, le=43200
    )
    task_type: str = setting(
        "1",
        en="Type of the task",
        ru="Тип задачи",
        help_en="The id of a task type in amoCRM; 1 is a call",
        help_ru="Идентификатор типа задачи в amoCRM; 1 — звонок",
        advanced=True,
        pattern=r"^[0-9]{1,18}$",
    )
    default_user: str = setting(
        "",
        en="User for calls of nobody",
        ru="Пользователь для ничьих звонков",
        help_en="The id of the user who gets calls that rang at nobody's phone or at one that amoCRM does not know. Empty: the user of the token",
        help_ru="Идентификатор пользователя, к которому попадают звонки, не дошедшие до сотрудника или дошедшие до неизвестного amoCRM. Пусто: пользователь токена",
        advanced=True,
        pattern=r"^[0-9]{0,18}$",
    )
    source: str = setting(
        "telephony-gateway",
        en="Name of the telephony",
        ru="Название телефонии",
        help_en="Stands at calls and incoming leads in amoCRM",
        help_ru="Стоит у звонков и заявок в amoCRM",
        advanced=True,
        pattern=r"^[0-9A-Za-zА-Яа-яЁё _.-]{1,60}$",
    )
    search: Literal["rest", "every"] = setting(
        "rest",
        en="Look for a number",
        ru="Искать номер",
        help_en="amoCRM matches the last 10 digits by itself. Then we search for the spellings that differ in them, or for all",
        help_ru="amoCRM сама сравнивает последние 10 цифр. Затем ищем написания, которые в них отличаются, или все",
        advanced=True,
        options={
            "rest": {
                "en": "In the spellings that amoCRM does not match",
                "ru": "В написаниях, которые amoCRM не сопоставляет",
            },
            "every": {"en": "In every spelling once more", "ru": "Во всех написаниях ещё раз"},
        },
    )
    repeats: Literal["look", "refused"] = setting(
        "look",
        en="Before a call is sent again",
        ru="Перед повторной отправкой звонка",
        help_en="It is not documented whether amoCRM refuses a call that it has already",
        help_ru="Отклоняет ли amoCRM звонок, который у неё уже есть, не описано",
        advanced=True,
        options={
            "look": {"en": "Look whether it is there", "ru": "Смотреть, нет ли его там"},
            "refused": {"en": "Rely on its refusal", "ru": "Полагаться на отказ"},
        },
    )
    send_events: SendEvents = setting(en="What is sent", ru="Что отправлять", default_factory=SendEvents)

    @field_validator("subdomain")
    @classmethod
    def _account(cls, value: str) -> str:
        host = value.strip().lower().removeprefix("https://").rstrip("/.")
        if re.fullmatch(_LABEL, host):
            host = f"{host}.{DOMAINS[0]}"
        if not is_account_host(host):
            raise BadValue(
                "a name like june, june.amocrm.ru or june.kommo.com is expected",
                "нужно имя вида june, june.amocrm.ru или june.kommo.com",
            )
        return host.removesuffix(f".{DOMAINS[0]}") if host.count(".") == 2 else host

    @field_validator("access_token", "client_secret", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("access_token", "client_secret")
    @classmethod
    def _visible(cls, value: Secret | None, info: ValidationInfo) -> Secret | None:
        if value is None or not value:
            return None
        text = value.reveal().strip()
        if not re.fullmatch(r"[!-~]{1,4000}", text):
            raise BadValue(
                "it has a space or a letter that cannot be in it", "есть пробел либо буква, которых в нём быть не может"
            )
        return Secret(text)

    @property
    def host(self) -> str:
        """The account's name as it was entered, in full."""
        return self.subdomain if "." in self.subdomain else f"{self.subdomain}.{DOMAINS[0]}"

    @property
    def origin(self) -> str:
        """Its address."""
        return f"https://{self.host}"
