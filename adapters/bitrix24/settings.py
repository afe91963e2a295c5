"""The settings of one link to a Bitrix24 portal. Owns the fields, their labels and what makes a value valid.

A portal is reached by the address of an incoming webhook, which is the whole credential, or by an application to which a person
gives access (`login.py`). Where both are there the webhook is used. Never calls the portal. Read `plan.py` next.
"""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ValidationInfo, field_validator, model_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id
from adapters.crm_settings import CrmSettings, SentEvents
from adapters.unique_settings import refused_field
from gateway.domain.hosts import host_problem
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual

_WEBHOOK = re.compile(
    r"(?P<path>(?:/[0-9A-Za-z._~-]+)*?/rest/(?P<user>[0-9]{1,18})/(?P<secret>[0-9A-Za-z_-]{4,128}))/?"
)
_NEEDS = Bilingual(
    "enter the webhook's address, or the portal and connect it as an application",
    "введите адрес вебхука или портал и подключите его как приложение",
)


def origin_of(text: str) -> str:
    """`https://name[:port]`. Raises BadValue for what is no site."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[^\s@/?#\\%]+", parts.netloc) or not parts.hostname:
        raise BadValue(
            "an address like https://example.bitrix24.ru is expected", "нужен адрес вида https://example.bitrix24.ru"
        )
    host = parts.hostname.rstrip(".")
    if (problem := host_problem(host)) is not None:
        raise BadValue(*problem)
    try:
        port = parts.port
    except ValueError:
        raise BadValue("the port is not a number from 1 to 65535", "порт — число от 1 до 65535") from None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


class SendEvents(SentEvents):
    """Which messages are sent."""

    in_: bool = setting(True, en="Card of an incoming call", ru="Карточка входящего звонка", alias="in")
    out: bool = setting(True, en="Card of an outgoing call", ru="Карточка исходящего звонка")
    hangup: bool = setting(
        True,
        en="Take the card from those who do not ring any more",
        ru="Убирать карточку у тех, у кого больше не звонит",
    )
    upload: bool = setting(
        True, en="Call goes into the statistics and the CRM", ru="Звонок попадает в статистику и CRM"
    )


class Bitrix24Settings(CrmSettings):
    """How one tenant's portal is reached, and what it receives."""

    webhook_url: Secret | None = setting(
        None,
        en="Webhook URL",
        ru="URL вебхука",
        help_en="From the settings of Bitrix24: Developer resources, Other, Inbound webhook. Rights: crm, telephony, user, task",
        help_ru="URL вебхука из настроек Битрикс24: Разработчикам, Другое, Входящий вебхук. Права: crm, telephony, user, task",
        secret=True,
        placeholder="https://example.bitrix24.ru/rest/1/SECRET/",
    )
    portal: str = setting(
        "",
        en="Portal",
        ru="Портал",
        help_en="Without a webhook: the portal's address, such as example.bitrix24.ru. Save it, then connect",
        help_ru="Без вебхука: адрес портала, например example.bitrix24.ru. Сохраните и нажмите «Подключить»",
        max_length=255,
        placeholder="example.bitrix24.ru",
    )
    client_id: str = setting(
        "",
        en="Application's client id",
        ru="Код приложения (client_id)",
        help_en="Of a local application; empty where the installation has one of its own",
        help_ru="Локального приложения; пусто, если приложение есть у самой установки",
        pattern=r"^[0-9A-Za-z._-]{0,128}$",
    )
    client_secret: Secret | None = setting(
        None, en="Application's key", ru="Ключ приложения (client_secret)", secret=True
    )
    application_token: Secret | None = setting(
        None,
        en="Application token",
        ru="Токен приложения",
        help_en="Bitrix24 sends it with every event. Empty: the unguessable address alone proves who calls",
        help_ru="Битрикс24 присылает его с каждым событием. Пусто: кто звонит нам, видно лишь по секретному адресу",
        secret=True,
    )
    create: Literal["lead", "contact", "deal", "none"] = setting(
        "lead",
        en="An unknown number becomes",
        ru="Неизвестный номер становится",
        options={
            "lead": {"en": "A lead", "ru": "Лидом"},
            "contact": {"en": "A contact", "ru": "Контактом"},
            "deal": {"en": "A contact with a deal", "ru": "Контактом и сделкой"},
            "none": {"en": "Nothing", "ru": "Ничем"},
        },
    )
    show_card: bool = setting(True, en="Show the card of a call", ru="Показывать карточку звонка")
    attach_recordings: bool = setting(
        True,
        en="Attach recordings",
        ru="Прикреплять записи разговоров",
        help_en="Bitrix24 fetches them from our public address",
        help_ru="Битрикс24 забирает их с нашего публичного адреса",
    )
    recordings_by: Literal["link", "upload"] = setting(
        "link",
        en="How recordings get there",
        ru="Как записи попадают в портал",
        help_en="Upload where Bitrix24 cannot reach our public address; files over 10 MiB go by link all the same",
        help_ru="Загрузка нужна, если наш публичный адрес недоступен из Битрикс24; файлы больше 10 МиБ идут по ссылке",
        options={
            "link": {"en": "Bitrix24 fetches them by a link", "ru": "Битрикс24 забирает по ссылке"},
            "upload": {"en": "They are uploaded", "ru": "Загружаются"},
        },
        advanced=True,
    )
    missed_task: bool = setting(
        True,
        en="A task for a missed call",
        ru="Задача по пропущенному звонку",
        help_en="Needs the right task; without it a planned activity of the client is made",
        help_ru="Нужно право task; без него создаётся дело в карточке клиента",
    )
    task_minutes: int = setting(
        60, en="Minutes until the task is due", ru="Минут до срока задачи", advanced=True, ge=1, le=43200
    )
    line_number: str = setting(
        "",
        en="Line number",
        ru="Номер линии",
        help_en="How the line is called in Bitrix24; empty: the number that the client dialled",
        help_ru="Как линия называется в Битрикс24; пусто: номер, на который позвонил клиент",
        advanced=True,
        pattern=r"^\+?[0-9A-Za-z_-]{0,40}$",
    )
    default_user: str = setting(
        "",
        en="User for calls of nobody",
        ru="Пользователь для ничьих звонков",
        help_en="The id of the user who gets calls that rang at nobody's phone or at one that Bitrix24 does not know. Empty: the user of the webhook or of the connection",
        help_ru="Идентификатор пользователя, к которому попадают звонки, не дошедшие до сотрудника или дошедшие до неизвестного Битрикс24. Пусто: пользователь вебхука или подключения",
        advanced=True,
        pattern=r"^[0-9]{0,18}$",
    )
    callback_extension: str = setting(
        "",
        en="Internal number for callbacks",
        ru="Внутренний номер для обратных звонков",
        help_en="Rings when a client orders a callback on a form. Empty: whoever is responsible for the client",
        help_ru="Звонит, когда клиент заказал обратный звонок. Пусто: ответственный за клиента",
        advanced=True,
        pattern=r"^[0-9A-Za-z_.*#-]{0,40}$",
    )
    source: str = setting(
        "",
        en="Source of new records",
        ru="Источник новых записей",
        help_en="A code of the list SOURCE in Bitrix24, such as CALL",
        help_ru="Код из справочника «Источники» в Битрикс24, например CALL",
        advanced=True,
        pattern=r"^[0-9A-Za-z_-]{0,50}$",
    )
    send_events: SendEvents = setting(en="What is sent", ru="Что отправлять", default_factory=SendEvents)
    auth_server: str = setting(
        "https://oauth.bitrix.info",
        en="Authorisation server",
        ru="Сервер авторизации",
        help_en="Of Bitrix24's applications; another one in some countries",
        help_ru="Приложений Битрикс24; в некоторых странах другой",
        advanced=True,
        max_length=255,
        leads=("client_secret",),
        widget="url",
    )
    hook_id: UrlId = hook_id()

    @field_validator("webhook_url", mode="before")
    @classmethod
    def _no_webhook(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("webhook_url")
    @classmethod
    def _webhook(cls, value: Secret | None) -> Secret | None:
        if value is None or not value:
            return None
        text = value.reveal().strip()
        parts = urlsplit(text)
        if "://" not in text or parts.query or parts.fragment or not _WEBHOOK.fullmatch(parts.path):
            raise BadValue(
                "an address like https://example.bitrix24.ru/rest/1/SECRET/ is expected, without a method at its end",
                "нужен адрес вида https://example.bitrix24.ru/rest/1/СЕКРЕТ/ без имени метода в конце",
            )
        return Secret(f"{origin_of(f'{parts.scheme}://{parts.netloc}')}{parts.path.rstrip('/')}/")

    @field_validator("portal")
    @classmethod
    def _portal(cls, value: str) -> str:
        text = value.strip().rstrip("/")
        if text and urlsplit(text if "://" in text else f"https://{text}").path:
            raise BadValue(
                "only the address of the portal is expected, without a path", "нужен только адрес портала, без пути"
            )
        return origin_of(text) if text else ""

    @field_validator("auth_server")
    @classmethod
    def _auth_server(cls, value: str) -> str:
        return origin_of(value.strip().rstrip("/"))

    @field_validator("client_secret", "application_token", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("client_secret", "application_token")
    @classmethod
    def _visible(cls, value: Secret | None, info: ValidationInfo) -> Secret | None:
        if value is not None and not re.fullmatch(r"[!-~]{1,500}", value.reveal()):
            raise BadValue(
                "it has a space or a letter that cannot be in it", "есть пробел либо буква, которых в нём быть не может"
            )
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.webhook_url is None and not self.portal:
            raise refused_field(type(self), "webhook_url", _NEEDS)
        return self

    @property
    def origin(self) -> str:
        """The portal's address as it was entered."""
        if self.webhook_url is None:
            return self.portal
        parts = urlsplit(self.webhook_url.reveal())
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def webhook(self) -> tuple[str, str, Secret] | None:
        """The webhook's path without a slash at its end, its user's id and its secret; None where there is no webhook."""
        found = _WEBHOOK.fullmatch(urlsplit(self.webhook_url.reveal()).path) if self.webhook_url is not None else None
        return (found["path"], found["user"], Secret(found["secret"])) if found is not None else None
