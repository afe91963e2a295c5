"""The settings of one widget: which sites may show it, how it looks, and whether visitors have to be identified. Pure."""

import re
import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, field_validator

from adapters.base import AdapterSettings, BadValue, setting
from adapters.credentials import UrlId
from gateway.domain.secret import Secret
from gateway.domain.text import has_breaking

MOST_DOMAINS = 100
_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LIGHT = 0.179
"""The relative luminance above which black can be read better than white. Source: WCAG 2.2, "contrast ratio"."""


def _key(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{8,64}", value):
        raise BadValue(
            "must be 8 to 64 letters, digits, - and _; leave it out, and one is made",
            "от 8 до 64 латинских букв, цифр, - и _; не указывайте его, и он создастся сам",
        )
    return value


def _strong(value: Secret) -> Secret:
    if not re.fullmatch("[!-~]{16,200}", value.reveal()):
        raise BadValue(
            "must be 16 to 200 Latin letters, digits and signs; leave it out, and one is made",
            "от 16 до 200 латинских букв, цифр и знаков; не указывайте его, и он создастся сам",
        )
    return value


def read_domain(text: str) -> str:
    """One allowed domain as a browser's content policy writes it: a host, perhaps with `*.` before it or a port behind. Raises
    BadValue."""
    bare = re.sub(r"^https?://", "", text.strip().lower()).partition("/")[0]
    host, colon, port = bare.partition(":")
    try:
        ascii_host = ".".join(
            part if part == "*" else part.encode("idna").decode() for part in host.rstrip(".").split(".")
        )
    except UnicodeError:
        ascii_host = ""
    number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
    if not _HOST.fullmatch(ascii_host) or ascii_host == "*" or (colon and not 0 < number < 65536):
        raise BadValue(
            "each is a domain such as shop.example, *.june.example for its subdomains, or localhost:5000 with a port",
            "каждый — домен, например shop.example, *.june.example для поддоменов или localhost:5000 с портом",
        )
    return f"{ascii_host}:{number}" if colon else ascii_host


def domains_of(text: str) -> tuple[str, ...]:
    """The allowed domains of a valid setting."""
    return tuple(dict.fromkeys(filter(None, re.split(r"[\s,;]+", text))))


def ink_on(color: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return "#000000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > _LIGHT else "#ffffff"


class WidgetSettings(AdapterSettings):
    """One widget."""

    allowed_domains: str = setting(
        "",
        en="Sites that may show the chat",
        ru="Сайты, которым можно показывать чат",
        help_en="Domains separated by commas: shop.example, *.june.example. With none, nobody sees the chat",
        help_ru="Домены через запятую: shop.example, *.june.example. Если не указать ни одного, чат не увидит никто",
        placeholder="shop.example, *.june.example",
        max_length=4000,
    )
    title: str = setting(
        "",
        en="Title",
        ru="Заголовок",
        help_en="At the head of the chat; empty: the company's name",
        help_ru="Над чатом; пусто: название компании",
        max_length=60,
    )
    color: str = setting("#1a7f5a", en="Colour", ru="Цвет", placeholder="#1a7f5a", pattern="^#[0-9A-Fa-f]{6}$")
    greeting: str = setting(
        "",
        en="Greeting",
        ru="Приветствие",
        help_en="Shown before the visitor has written",
        help_ru="Показывается, пока посетитель ничего не написал",
        max_length=500,
    )
    identity: Literal["optional", "required"] = setting(
        "optional",
        en="Who may write",
        ru="Кто может писать",
        options={
            "optional": {"en": "every visitor", "ru": "любой посетитель"},
            "required": {"en": "only visitors whom the site has identified", "ru": "только те, кого опознал сайт"},
        },
    )
    widget_key: Annotated[str, AfterValidator(_key)] = setting(
        en="Key of the widget",
        ru="Ключ виджета",
        help_en="Public: stands in the pages of the site. Made by itself",
        help_ru="Открытый: стоит в страницах сайта. Создаётся сам",
        account=True,
        stored=True,
        advanced=True,
        default_factory=lambda: secrets.token_urlsafe(16),
    )
    identity_secret: Annotated[Secret, AfterValidator(_strong)] = setting(
        en="Secret for identified visitors",
        ru="Секрет для опознанных посетителей",
        help_en="The site's server signs a visitor's id with it (HMAC-SHA256). Made by itself",
        help_ru="Им сервер сайта подписывает идентификатор посетителя (HMAC-SHA256). Создаётся сам",
        secret=True,
        advanced=True,
        default_factory=lambda: Secret(secrets.token_urlsafe(32)),
    )
    hook_id: UrlId = setting(
        en="Secret of visitors' tokens",
        ru="Секрет токенов посетителей",
        help_en="Made by itself; a new one makes every browser begin a new conversation",
        help_ru="Создаётся сам; с новым каждый браузер начнёт новую переписку",
        secret=True,
        advanced=True,
        default_factory=lambda: Secret(secrets.token_urlsafe(32)),
    )

    @field_validator("allowed_domains", mode="before")
    @classmethod
    def _domains(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            value = ", ".join(value)
        if not isinstance(value, str):
            return value
        found = tuple(dict.fromkeys(map(read_domain, domains_of(value))))
        if len(found) > MOST_DOMAINS:
            raise BadValue(f"at most {MOST_DOMAINS} domains", f"не больше {MOST_DOMAINS} доменов")
        return ", ".join(found)

    @field_validator("title", "greeting")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if has_breaking(value):
            raise BadValue("must be one line of text", "должна быть одна строка текста")
        return value.strip()
