"""The settings of one link to the restaurant cloud. Owns the fields, their labels and what makes a value valid.

Two generations of logins exist: an API login, which is the whole credential, and an application's key with its secret. Where both are
there, the newer is used once all of it is entered. What the provider does not document is a setting (`pause_s`, `token_minutes`, `attention`, `address`,
`require_token`). Never calls the cloud. Read `plan.py` next.
"""

import re
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id, made_secret
from adapters.crm_settings import CrmSettings, SentEvents
from adapters.unique_settings import refused_field
from gateway.domain.hosts import host_problem
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_UUID = re.compile(UUID)
_NEEDS = Bilingual(
    "enter the API login; or the API key, the application's id and its client secret, all three",
    "введите API-логин; или API-ключ, идентификатор приложения и его секрет — все три",
)
_SECRETS = ("api_login", "api_key", "client_secret")


def origin_of(text: str) -> str:
    """`https://name[:port]`. Raises BadValue for what is no site."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    bad = BadValue(
        "an address like https://api.example.com is expected, without a path",
        "нужен адрес вида https://api.example.com, без пути",
    )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise bad
    if not re.fullmatch(r"[^\s@/?#\\%]+", parts.netloc):
        raise bad
    if (problem := host_problem(parts.hostname)) is not None:
        raise BadValue(*problem)
    try:
        port = parts.port
    except ValueError:
        raise BadValue("the port is not a number from 1 to 65535", "порт — число от 1 до 65535") from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


class SendEvents(SentEvents):
    """Which messages about calls are sent."""

    in_: bool = setting(True, en="Attention about an incoming call", ru="Уведомление о входящем звонке", alias="in")
    upload: bool = setting(True, en="Guest of an ended call", ru="Гость после звонка")


class TillSettings(CrmSettings):
    """How one company's account is reached, and what it receives. The names' classes give the host."""

    HOST: ClassVar[str] = ""
    """Where the cloud is, unless another host is entered."""
    MAPS: ClassVar[tuple[str, ...]] = ("contact", "order")

    read_timeout_s: float = setting(
        30.0, en="Seconds to wait for an answer", ru="Секунд на ожидание ответа", advanced=True, gt=0, le=30
    )
    api_login: Secret | None = setting(
        None,
        en="API login",
        ru="API-логин",
        help_en="From the web office, settings of the Cloud API. With it the fields of an application stay empty",
        help_ru="Из веб-офиса, настройки Cloud API. С ним поля приложения остаются пустыми",
        secret=True,
    )
    api_key: Secret | None = setting(
        None,
        en="API key",
        ru="API-ключ",
        help_en="Of the newer kind of access: made in the web office under integrations, API keys. Needs the two fields below",
        help_ru="Нового вида доступа: создаётся в веб-офисе, раздел интеграций, API-ключи. Нужны и два поля ниже",
        secret=True,
    )
    app_id: str = setting(
        "",
        en="Application's id",
        ru="Идентификатор приложения",
        help_en="Of the application in the developers' portal (appId)",
        help_ru="Приложения на портале разработчиков (appId)",
        max_length=64,
        placeholder="550e8400-e29b-41d4-a716-446655440000",
    )
    client_secret: Secret | None = setting(
        None,
        en="Application's client secret",
        ru="Секрет приложения",
        help_en="Shown once when the application is registered (clientSecret)",
        help_ru="Показывается один раз при регистрации приложения (clientSecret)",
        secret=True,
    )
    organization_id: str = setting(
        "",
        en="Organization",
        ru="Организация",
        help_en="Save the access first, then press Connect and choose from the list; or enter the id",
        help_ru="Сначала сохраните доступ, затем нажмите «Подключить» и выберите из списка; или введите идентификатор",
        max_length=64,
        placeholder="7bc05553-4b68-44e8-b7bc-37be63c6d9e9",
    )
    terminal_group_id: str = setting(
        "",
        en="Terminal group",
        ru="Группа терминалов",
        help_en="The tills that get orders and attentions; chosen together with the organization. Empty: whichever the cloud chooses",
        help_ru="Кассы, которые получают заказы и уведомления; выбирается вместе с организацией. Пусто: облако выбирает само",
        max_length=64,
    )
    create: Literal["contact", "none"] = setting(
        "none",
        en="An unknown number that calls becomes",
        ru="Неизвестный номер, с которого звонят, становится",
        help_en="Clients of chats and orders become guests whatever is set here",
        help_ru="Клиенты чатов и заказов становятся гостями независимо от этого",
        options={
            "contact": {"en": "A guest", "ru": "Гостем"},
            "none": {"en": "Nothing", "ru": "Ничем"},
        },
    )
    attention: Literal["off", "order_attention", "delivery_attention"] = setting(
        "off",
        en="Attention at the till when a client with an open order calls",
        ru="Уведомление на кассе, когда звонит клиент с открытым заказом",
        help_en="Versions of the till know different messages: if the first shows nothing there, take the second",
        help_ru="Разные версии кассы понимают разные сообщения: если первое не показывается, выберите второе",
        options={
            "off": {"en": "None", "ru": "Не показывать"},
            "order_attention": {"en": "order_attention", "ru": "order_attention"},
            "delivery_attention": {"en": "delivery_attention", "ru": "delivery_attention"},
        },
    )
    address: Literal["line1", "street", "comment"] = setting(
        "line1",
        en="Address of a delivery is sent",
        ru="Адрес доставки передаётся",
        help_en="As one line where the account takes addresses by city; as street and house where it takes the older form, with fields "
        "street, house, flat, city; else in the comment",
        help_ru="Одной строкой, если организация принимает адреса по городам; улицей и домом, если старого вида — из полей street, house, "
        "flat, city; иначе в комментарии",
        advanced=True,
        options={
            "line1": {"en": "As one line", "ru": "Одной строкой"},
            "street": {"en": "As street and house", "ru": "Улицей и домом"},
            "comment": {"en": "In the comment", "ru": "В комментарии"},
        },
    )
    order_type_id: str = setting(
        "",
        en="Type of orders",
        ru="Тип заказов",
        help_en="The id of an order type of the account. Empty: by courier where there is an address, else picked up",
        help_ru="Идентификатор типа заказа. Пусто: курьером, если есть адрес, иначе самовывоз",
        advanced=True,
        max_length=64,
    )
    cancel_cause_id: str = setting(
        "", en="Cause of cancellations", ru="Причина отмены", advanced=True, max_length=64,
        help_en="The id of a cancel cause of the account; some accounts require one",
        help_ru="Идентификатор причины отмены; некоторым организациям он обязателен",
    )  # fmt: skip
    external_menu_id: str = setting(
        "",
        en="External menu",
        ru="Внешнее меню",
        help_en="Its number; the catalog is then read from it. Empty: the account's whole menu",
        help_ru="Его номер; каталог тогда читается из него. Пусто: всё меню организации",
        advanced=True,
        pattern=r"^[0-9A-Za-z-]{0,64}$",
    )
    price_category_id: str = setting(
        "", en="Price category", ru="Ценовая категория", advanced=True, max_length=64,
        help_en="Of the external menu; empty: its own", help_ru="Внешнего меню; пусто: его собственная",
    )  # fmt: skip
    check_stop_list: bool = setting(
        True,
        en="The till refuses orders with items on its stop-list",
        ru="Касса отклоняет заказы с позициями из стоп-листа",
        advanced=True,
    )
    source_key: str = setting(
        "gateway",
        en="Source of orders",
        ru="Источник заказов",
        help_en="A word that marks our orders there",
        help_ru="Слово, которым там помечены наши заказы",
        advanced=True,
        pattern=r"^[0-9A-Za-z._-]{1,40}$",
    )
    set_webhook: bool = setting(
        True,
        en="Enter our webhook there",
        ru="Прописывать там наш вебхук",
        help_en="One organization and login have one webhook: another service's is left alone, and this page says so",
        help_ru="У организации и логина один вебхук: чужой мы не трогаем и сообщаем об этом здесь",
        advanced=True,
    )
    require_token: bool = setting(
        True,
        en="Webhooks must bring our token",
        ru="Вебхук должен приходить с нашим токеном",
        help_en="Off: the unguessable address alone proves who calls",
        help_ru="Выключено: кто звонит нам, видно лишь по секретному адресу",
        advanced=True,
    )
    token_minutes: int = setting(
        15,
        en="Minutes that a token of the API login lives",
        ru="Минут, которые живёт токен API-логина",
        help_en="Not documented; a refused token is replaced at once. Tokens of applications say it themselves",
        help_ru="Не документировано; отвергнутый токен сразу заменяется. Токены приложений сообщают это сами",
        advanced=True,
        ge=5,
        le=60,
    )
    pause_s: int = setting(
        60,
        en="Seconds of pause after too many requests",
        ru="Секунд паузы после слишком частых запросов",
        help_en="The provider does not publish its limits; it counts each group of requests apart",
        help_ru="Лимиты не опубликованы; каждая группа запросов считается отдельно",
        advanced=True,
        ge=5,
        le=300,
    )
    send_events: SendEvents = setting(
        en="What is sent about calls", ru="Что отправлять о звонках", default_factory=SendEvents
    )
    url: str = setting(
        "",
        en="Address of the API",
        ru="Адрес API",
        help_en="Empty: the usual one",
        help_ru="Пусто: обычный",
        advanced=True,
        max_length=255,
        leads=_SECRETS,
        widget="url",
    )
    webhook_token: UrlId = made_secret(
        en="Token of webhooks",
        ru="Токен вебхуков",
        help_en="Made by itself and entered there together with the address",
        help_ru="Создаётся сам и прописывается там вместе с адресом",
    )
    hook_id: UrlId = hook_id()

    @field_validator(*_SECRETS, mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """A line left empty is none."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator(*_SECRETS)
    @classmethod
    def _visible(cls, value: Secret | None) -> Secret | None:
        if value is not None and not re.fullmatch(r"[!-~]{1,500}", value.reveal().strip()):
            raise BadValue(
                "it has a space or a letter that cannot be in it", "есть пробел либо буква, которых в нём быть не может"
            )
        return Secret(value.reveal().strip()) if value else None

    @field_validator(
        "app_id", "organization_id", "terminal_group_id", "order_type_id", "cancel_cause_id", "price_category_id"
    )
    @classmethod
    def _id(cls, value: str) -> str:
        found = value.strip().lower()
        if found and not _UUID.fullmatch(found):
            raise BadValue(
                "an id like 7bc05553-4b68-44e8-b7bc-37be63c6d9e9 is expected",
                "нужен идентификатор вида 7bc05553-4b68-44e8-b7bc-37be63c6d9e9",
            )
        return found

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return origin_of(value.strip().rstrip("/")) if value.strip() else ""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        parts = (self.api_key is not None, bool(self.app_id), self.client_secret is not None)
        if self.api_login is None and not all(parts):
            name = ("api_key", "app_id", "client_secret")[parts.index(False)] if any(parts) else "api_login"
            raise refused_field(type(self), name, _NEEDS)
        if self.terminal_group_id and not self.organization_id:
            text = Bilingual(
                "enter the organization of this terminal group", "введите организацию этой группы терминалов"
            )
            raise refused_field(type(self), "organization_id", text)
        return self

    @property
    def key(self) -> tuple[Secret, Secret] | None:
        """The key and the client secret of an application, where all of it is entered; then no API login is used."""
        whole = self.api_key is not None and self.client_secret is not None and self.app_id
        return (self.api_key, self.client_secret) if whole and self.api_key and self.client_secret else None

    @property
    def origin(self) -> str:
        """Where the cloud is."""
        return self.url or self.HOST
