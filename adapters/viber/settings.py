"""The settings of one Viber bot. Owns the fields, their labels and what makes a value valid.

Never calls Viber; whether the bot is switched on is a column beside these settings. Read `chats.py` next.
"""

import re

from pydantic import field_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id
from adapters.http_settings import HttpSettings
from gateway.domain.secret import Secret

LONGEST_NAME = 28
"""Characters of a sender's name."""
LONGEST_GREETING = 1000


class ViberSettings(HttpSettings):
    """Which bot writes, and under which name."""

    auth_token: Secret = setting(
        en="Bot token",
        ru="Токен бота",
        help_en="Viber Admin Panel (partners.viber.com), the bot's page, Token. Bots are made on Viber's commercial terms alone",
        help_ru="Панель Viber (partners.viber.com), страница бота, Token. Боты создаются только на коммерческих условиях Viber",
        secret=True,
        placeholder="4453b6ac12345678-e02c5f12174805f9-daec9cbb5448c51f",
    )
    sender_name: str = setting(
        en="Sender's name",
        ru="Имя отправителя",
        help_en=f"Shown above each message; at most {LONGEST_NAME} characters",
        help_ru=f"Показывается над каждым сообщением; не длиннее {LONGEST_NAME} символов",
        placeholder="June",
    )
    greeting: str = setting(
        "",
        en="Greeting",
        ru="Приветствие",
        help_en="Shown to whoever opens the chat for the first time, before they write. Empty: nothing is shown",
        help_ru="Видит тот, кто впервые открыл чат, ещё не написав. Пусто: ничего не показывается",
        advanced=True,
    )
    hook_id: UrlId = hook_id()

    @field_validator("auth_token")
    @classmethod
    def _token(cls, value: Secret) -> Secret:
        """It becomes a header."""
        if not re.fullmatch(r"[!-~]{1,256}", value.reveal()):
            raise BadValue(
                "this is not a bot's token: letters, digits and dashes without spaces are expected",
                "это не токен бота: нужны латинские буквы, цифры и дефисы без пробелов",
            )
        return value

    @field_validator("greeting")
    @classmethod
    def _greeting(cls, value: str) -> str:
        text = value.strip()
        if len(text) > LONGEST_GREETING or "\0" in text:
            raise BadValue(f"must have at most {LONGEST_GREETING} characters", f"не больше {LONGEST_GREETING} символов")
        return text

    @field_validator("sender_name")
    @classmethod
    def _name(cls, value: str) -> str:
        name = value.strip()
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise BadValue(
                f"must have 1 to {LONGEST_NAME} characters, in one line",
                f"от 1 до {LONGEST_NAME} символов, в одну строку",
            )
        return name
