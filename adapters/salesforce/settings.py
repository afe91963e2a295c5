"""Settings of one tenant's Salesforce organisation. Owns the fields, their labels and what makes a value valid.

Never calls the organisation. Read `plan.py` next.
"""

import base64
import binascii
import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationInfo, field_validator, model_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id
from adapters.crm_settings import CrmSettings, SentEvents
from adapters.unique_settings import refused_field
from gateway.domain.hosts import host_problem
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual

_PEM = re.compile(r"-----BEGIN ((?:RSA )?PRIVATE KEY)-----(.*)-----END \1-----", re.DOTALL)
_LEAST_BITS = 2048
_FIELD = r"^(?:[A-Za-z][0-9A-Za-z_]{0,79})?$"
_SECRET_NEEDED = Bilingual(
    "needed for this way of signing in: the consumer secret of the app",
    "нужен для этого способа входа: секрет приложения (consumer secret)",
)
_KEY_NEEDED = Bilingual(
    "needed to sign in by JWT: the private key in PEM whose certificate stands in the app",
    "нужен для входа по JWT: закрытый ключ в PEM, сертификат которого указан в приложении",
)
_USER_NEEDED = Bilingual(
    "needed to sign in by JWT: the name of the user in whose name we work",
    "нужно для входа по JWT: имя пользователя, от которого мы работаем",
)


class SendEvents(SentEvents):
    """Which messages are sent."""

    in_: bool = setting(
        True, en="Record of an incoming call's client opens", ru="Открывать запись клиента при входящем", alias="in"
    )
    upload: bool = setting(True, en="Calls become tasks", ru="Звонки попадают в задачи")
    internal: bool = setting(True, en="Internal calls too", ru="Внутренние звонки тоже")


class SalesforceSettings(CrmSettings):
    """How one organisation is reached, and what it receives."""

    instance_url: str = setting(
        en="Address (My Domain)",
        ru="Адрес (My Domain)",
        help_en="In Salesforce: Setup, My Domain, Current My Domain URL",
        help_ru="В Salesforce: Setup, My Domain, Current My Domain URL",
        max_length=255,
        widget="url",
        leads=("client_secret", "private_key"),
        placeholder="https://example.my.salesforce.com",
    )
    client_id: str = setting(
        en="Consumer key of the app",
        ru="Ключ приложения (consumer key)",
        help_en="In Salesforce: Setup, External Client App Manager, the app's OAuth settings",
        help_ru="В Salesforce: Setup, External Client App Manager, настройки OAuth приложения",
        pattern=r"^[0-9A-Za-z._-]{1,512}$",
    )
    client_secret: Secret | None = setting(
        None, en="Consumer secret of the app", ru="Секрет приложения (consumer secret)", secret=True
    )
    grant: Literal["client_credentials", "jwt", "refresh"] = setting(
        "client_credentials",
        en="We sign in",
        ru="Мы входим",
        options={
            "client_credentials": {
                "en": "As the app's own user (client credentials)",
                "ru": "Как пользователь приложения (client credentials)",
            },
            "jwt": {"en": "By a private key, as a user (JWT bearer)", "ru": "По закрытому ключу, как пользователь (JWT bearer)"},
            "refresh": {
                "en": "As whoever connects it here (refresh token)",
                "ru": "Как тот, кто подключит здесь (refresh token)",
            },
        },
    )  # fmt: skip
    username: str = setting(
        "",
        en="User name for JWT",
        ru="Имя пользователя для JWT",
        help_en="The Salesforce user in whose name we work; the app has to be pre-authorised for them",
        help_ru="Пользователь Salesforce, от имени которого мы работаем; приложение должно быть для него предварительно разрешено",
        advanced=True,
        max_length=128,
        placeholder="integration@example.com",
    )
    private_key: Secret | None = setting(
        None,
        en="Private key for JWT",
        ru="Закрытый ключ для JWT",
        help_en="RSA, PEM, without a password; line breaks may be lost",
        help_ru="RSA, PEM, без пароля; переводы строк могут потеряться",
        advanced=True,
        secret=True,
    )
    audience: str = setting(
        "",
        en="Audience of JWT",
        ru="Получатель JWT (audience)",
        help_en="Empty: https://login.salesforce.com, or https://test.salesforce.com for a sandbox",
        help_ru="Пусто: https://login.salesforce.com, для песочницы https://test.salesforce.com",
        advanced=True,
        pattern=r"^(?:https://[0-9A-Za-z./_-]{1,200})?$",
    )
    api_version: str = setting(
        "v68.0", en="Version of the API", ru="Версия API", advanced=True, pattern=r"^v[1-9][0-9]{1,2}\.0$"
    )
    call_field: str = setting(
        "",
        en="Field with the call's id",
        ru="Поле с идентификатором звонка",
        help_en="A text field of Activity, unique and External ID, such as GwCallId__c: a call told twice stays one task. Empty: "
        "tasks are looked for by CallObject before a repeat",
        help_ru="Текстовое поле Activity, уникальное, External ID, например GwCallId__c: звонок, отправленный дважды, остаётся "
        "одной задачей. Пусто: перед повтором задача ищется по CallObject",
        pattern=_FIELD,
        placeholder="GwCallId__c",
    )
    order_field: str = setting(
        "",
        en="Field with the order's id",
        ru="Поле с идентификатором заказа",
        help_en="A text field of Opportunity, unique and External ID, such as GwOrderId__c. Empty: opportunities are looked for by name "
        "before a repeat",
        help_ru="Текстовое поле Opportunity, уникальное, External ID, например GwOrderId__c. Пусто: перед повтором возможность ищется "
        "по названию",
        advanced=True,
        pattern=_FIELD,
        placeholder="GwOrderId__c",
    )
    create: Literal["lead", "contact", "none"] = setting(
        "lead",
        en="An unknown number becomes",
        ru="Неизвестный номер становится",
        options={
            "lead": {"en": "A lead", "ru": "Лидом"},
            "contact": {"en": "A contact", "ru": "Контактом"},
            "none": {"en": "Nothing", "ru": "Ничем"},
        },
    )
    duplicates: Literal["link", "save"] = setting(
        "link",
        en="Where a duplicate rule stops a new record",
        ru="Если правило дубликатов не даёт создать запись",
        help_en="Whether the header that saves all the same is obeyed depends on the rule",
        help_ru="Действует ли заголовок «сохранить всё равно», зависит от правила",
        advanced=True,
        options={
            "link": {"en": "Take the record that it names", "ru": "Взять запись, которую оно называет"},
            "save": {"en": "Save all the same", "ru": "Сохранить всё равно"},
        },
    )
    attach_recordings: bool = setting(True, en="Links to recordings", ru="Ссылки на записи разговоров")
    recording_field: str = setting(
        "",
        en="Field of the recording's link",
        ru="Поле для ссылки на запись",
        help_en="A URL field of Activity; empty: at the end of the comments",
        help_ru="Поле Activity типа URL; пусто: в конце комментариев",
        advanced=True,
        pattern=_FIELD,
    )
    missed_task: bool = setting(True, en="A task for a missed call", ru="Задача по пропущенному звонку")
    task_subtype: bool = setting(
        True,
        en="Task subtype Call",
        ru="Подтип задачи Call",
        help_en="Off where the organisation refuses TaskSubtype",
        help_ru="Выключите, если организация не принимает TaskSubtype",
        advanced=True,
    )
    closed_status: str = setting(
        "",
        en="Status of a call that is over",
        ru="Статус завершённого звонка",
        help_en="Empty: the first closed status that the organisation has",
        help_ru="Пусто: первый закрытый статус, который есть в организации",
        advanced=True,
        max_length=255,
        placeholder="Completed",
    )
    open_status: str = setting(
        "",
        en="Status of a task to call back",
        ru="Статус задачи перезвонить",
        help_en="Empty: the organisation's default status",
        help_ru="Пусто: статус организации по умолчанию",
        advanced=True,
        max_length=255,
        placeholder="Not Started",
    )
    default_user: str = setting(
        "",
        en="User for calls of nobody",
        ru="Пользователь для ничьих звонков",
        help_en="The id (005…) of the user who gets calls of nobody whom Salesforce knows. Empty: the user in whose name we work",
        help_ru="Идентификатор (005…) пользователя, к которому попадают звонки неизвестных Salesforce сотрудников. Пусто: тот, от чьего имени мы работаем",
        advanced=True,
        pattern=r"^(?:005[0-9A-Za-z]{12}(?:[0-9A-Za-z]{3})?)?$",
    )
    source: str = setting(
        "",
        en="Source of new records",
        ru="Источник новых записей",
        help_en="A value of LeadSource, such as Phone Inquiry",
        help_ru="Значение поля LeadSource, например Phone Inquiry",
        advanced=True,
        max_length=40,
    )
    company: str = setting(
        "[not provided]",
        en="Company of new leads",
        ru="Компания новых лидов",
        help_en="Salesforce wants one in every lead",
        help_ru="Salesforce требует её в каждом лиде",
        advanced=True,
        min_length=1,
        max_length=255,
    )
    send_events: SendEvents = setting(en="What is sent", ru="Что отправлять", default_factory=SendEvents)
    hook_id: UrlId = hook_id()

    @field_validator("instance_url")
    @classmethod
    def _instance(cls, value: str) -> str:
        return _origin(value.strip().rstrip("/"))

    @field_validator("client_secret", "private_key", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("client_secret")
    @classmethod
    def _visible(cls, value: Secret | None) -> Secret | None:
        if value is not None and not re.fullmatch(r"[!-~]{1,500}", value.reveal()):
            raise BadValue(
                "it has a space or a letter that cannot be in it", "есть пробел либо буква, которых в нём быть не может"
            )
        return value

    @field_validator("private_key")
    @classmethod
    def _key(cls, value: Secret | None) -> Secret | None:
        return Secret(_pem(value.reveal())) if value is not None else None

    @field_validator("closed_status", "open_status", "source", "company", "username")
    @classmethod
    def _line(cls, value: str, info: ValidationInfo) -> str:
        if not value.isprintable():
            raise BadValue("must be one line of text", "должна быть одна строка текста")
        return value.strip()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.grant == "jwt":
            if self.private_key is None:
                raise refused_field(type(self), "private_key", _KEY_NEEDED)
            if not self.username:
                raise refused_field(type(self), "username", _USER_NEEDED)
        elif self.grant == "client_credentials" and self.client_secret is None:
            raise refused_field(type(self), "client_secret", _SECRET_NEEDED)
        return self

    @property
    def is_sandbox(self) -> bool:
        """Whether it is a sandbox of Salesforce's."""
        return ".sandbox." in f"{urlsplit(self.instance_url).hostname or ''}."

    @property
    def jwt_audience(self) -> str:
        """To whom a JWT is addressed."""
        return self.audience or f"https://{'test' if self.is_sandbox else 'login'}.salesforce.com"


def _origin(text: str) -> str:
    parts = urlsplit(text if "://" in text else f"https://{text}")
    bad = BadValue(
        "an address like https://example.my.salesforce.com is expected, without a path",
        "нужен адрес вида https://example.my.salesforce.com, без пути",
    )
    if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment or not parts.hostname:
        raise bad
    if not re.fullmatch(r"[^\s@/?#\\%]+", parts.netloc):
        raise bad
    host = parts.hostname.rstrip(".").lower()
    if host in ("login.salesforce.com", "test.salesforce.com"):
        raise BadValue(
            "this address is everybody's: enter your own, such as https://example.my.salesforce.com",
            "это общий адрес: введите свой, например https://example.my.salesforce.com",
        )
    if host.endswith(".lightning.force.com"):
        raise BadValue(
            "this is the address of the pages: enter the one that ends with my.salesforce.com",
            "это адрес страниц: введите тот, который кончается на my.salesforce.com",
        )
    if (problem := host_problem(host)) is not None:
        raise BadValue(*problem)
    try:
        port = parts.port
    except ValueError:
        raise BadValue("the port is not a number from 1 to 65535", "порт — число от 1 до 65535") from None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def _pem(text: str) -> str:
    """A key in PEM with its lines restored. Raises BadValue."""
    bad = BadValue(
        "a private key is expected: RSA of at least 2048 bits, PEM, without a password",
        "нужен закрытый ключ: RSA от 2048 бит, PEM, без пароля",
    )
    found = _PEM.fullmatch(text.strip().replace("\\n", "\n"))
    if found is None:
        raise bad
    body = re.sub(r"\s", "", found[2])
    try:
        base64.b64decode(body, validate=True)
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        pem = f"-----BEGIN {found[1]}-----\n{lines}\n-----END {found[1]}-----\n"
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        raise bad from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _LEAST_BITS:
        raise bad
    return pem
