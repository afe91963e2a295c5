"""The settings of one VK community. Owns the fields, their labels and what makes a value valid.

Never calls VK; whether the community is switched on is a column beside these settings. Read `incoming.py` next.
"""

import re
import secrets
from typing import Any, Literal

from pydantic import field_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id
from adapters.http_settings import HttpSettings
from gateway.domain.secret import Secret

LONGEST_SECRET = 50
"""Characters; VK takes no more."""


class VkSettings(HttpSettings):
    """Which community answers, and how its messages arrive."""

    group_id: str = setting(
        en="Community's number",
        ru="Номер сообщества",
        help_en="The digits of vk.com/club123456789 or public123456789; in the community: Manage, Settings, Address",
        help_ru="Цифры из vk.com/club123456789 или public123456789; в сообществе: Управление, Настройки, Адрес",
        placeholder="123456789",
    )
    access_token: Secret = setting(
        en="Access token of the community",
        ru="Ключ доступа сообщества",
        help_en="In the community: Manage, API usage, Access tokens, with the rights to messages, photos, documents and management",
        help_ru="В сообществе: Управление, Работа с API, Ключи доступа, с правами на сообщения, фотографии, документы и управление",
        secret=True,
        placeholder="vk1.a.…",
    )
    updates: Literal["longpoll", "callback"] = setting(
        "longpoll",
        en="How messages arrive",
        ru="Как приходят сообщения",
        options={
            "longpoll": {"en": "the gateway asks VK", "ru": "шлюз спрашивает VK"},
            "callback": {
                "en": "VK calls the gateway, at a public https address",
                "ru": "VK обращается к шлюзу по публичному адресу https",
            },
        },
    )
    secret: Secret = setting(
        en="Secret key of the callback server",
        ru="Секретный ключ сервера Callback API",
        help_en="Made by itself. Enter one only where the server was added in VK by hand: Manage, API usage, Callback API, Secret key",
        help_ru="Создаётся сам. Введите его, только если сервер добавлен в VK вручную: Управление, Работа с API, Callback API, Секретный ключ",
        secret=True,
        advanced=True,
        default_factory=lambda: Secret(secrets.token_hex(20)),
    )
    confirmation: str = setting(
        "",
        en="Confirmation string",
        ru="Строка, которую должен вернуть сервер",
        help_en="Only where the server was added in VK by hand: Manage, API usage, Callback API. The gateway's own server needs none",
        help_ru="Только если сервер добавлен в VK вручную: Управление, Работа с API, Callback API. Серверу самого шлюза она не нужна",
        advanced=True,
    )
    hook_id: UrlId = hook_id()

    @field_validator("group_id", mode="before")
    @classmethod
    def _group(cls, value: Any) -> Any:
        """Digits may stand without quotes, and with what stands before them in an address."""
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        found = re.fullmatch(r"(?:(?:https://)?vk\.(?:com|ru)/)?(?:club|public|event)?([1-9][0-9]{0,14})", text.strip()) if isinstance(text, str) else None  # fmt: skip
        if found is None:
            raise BadValue(
                "the number of a community is digits, such as 123456789 of vk.com/club123456789",
                "номер сообщества состоит из цифр, например 123456789 из vk.com/club123456789",
            )
        return found[1]

    @field_validator("access_token")
    @classmethod
    def _token(cls, value: Secret) -> Secret:
        """It becomes a header."""
        if not re.fullmatch(r"[!-~]{1,512}", value.reveal()):
            raise BadValue(
                "this is not an access token: letters, digits, dots and dashes without spaces are expected",
                "это не ключ доступа: нужны латинские буквы, цифры, точки и дефисы без пробелов",
            )
        return value

    @field_validator("secret")
    @classmethod
    def _secret(cls, value: Secret) -> Secret:
        if not re.fullmatch(rf"[!-~]{{1,{LONGEST_SECRET}}}", value.reveal()):
            raise BadValue(
                f"must be 1 to {LONGEST_SECRET} characters without spaces; leave it empty, and one is made",
                f"от 1 до {LONGEST_SECRET} символов без пробелов; оставьте пустым, и он создастся сам",
            )
        return value

    @field_validator("confirmation")
    @classmethod
    def _confirmation(cls, value: str) -> str:
        if not re.fullmatch(r"[0-9A-Za-z_-]{0,64}", value.strip()):
            raise BadValue(
                "is a few letters and digits, as VK shows them", "это несколько букв и цифр, как их показывает VK"
            )
        return value.strip()
