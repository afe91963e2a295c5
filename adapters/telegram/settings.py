"""The settings of one Telegram bot. Owns the fields, their labels and what makes a value valid.

Never calls Telegram; whether the bot is switched on is a column beside these settings. Read `codec.py` next.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import field_validator

from adapters.base import BadValue, setting
from adapters.credentials import UrlId, hook_id
from adapters.http_settings import HttpSettings
from gateway.domain.secret import Secret

GENERAL = 1
"""The topic that every forum group has. Messages for it name no topic."""
_PLACE = re.compile(r"(-?[0-9]{1,18})(?:/([0-9]{1,10}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where cards go: a chat, and in a forum group one of its topics."""

    chat: int
    topic: int | None = None

    def __str__(self) -> str:
        return str(self.chat) if self.topic is None else f"{self.chat}/{self.topic}"

    @classmethod
    def read(cls, value: int | str) -> "Place":
        """The inverse of `str`. Raises BadValue."""
        found = _PLACE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
        if found is None or int(found[1]) == 0 or abs(int(found[1])) >= 1 << 52:
            raise BadValue(
                "the id of a chat is a number other than 0, such as -1001234567890; a topic stands behind a slash: "
                "-1001234567890/17",
                "идентификатор чата — число, не 0, например -1001234567890; тема пишется через косую черту: "
                "-1001234567890/17",
            )
        chat, topic = int(found[1]), int(found[2]) if found[2] else None
        if topic is not None and (chat > 0 or topic == 0 or topic >= 1 << 31):
            raise BadValue(
                "only groups have topics, and a topic's number is not 0",
                "темы бывают только у групп, и номер темы не 0",
            )
        return cls(chat, topic)


class TelegramSettings(HttpSettings):
    """Which bot writes, and where."""

    bot_token: Secret = setting(
        en="Bot token",
        ru="Токен бота",
        help_en="@BotFather gives it, in the form 123456789:AAE…",
        help_ru="Его выдаёт @BotFather, в виде 123456789:AAE…",
        secret=True,
        placeholder="123456789:AAE…",
    )
    notify_chats: tuple[int | str, ...] = setting(
        (),
        en="Chats for call notifications",
        ru="Чаты для уведомлений о звонках",
        help_en="Ids of chats and groups, such as -1001234567890; the bot must be in them. One topic of a group: "
        "-1001234567890/17",
        help_ru="Идентификаторы чатов и групп, например -1001234567890; бот должен в них состоять. Одна тема группы: "
        "-1001234567890/17",
        max_length=20,
    )
    notify_internal: bool = setting(
        False,
        en="Notify of calls between colleagues too",
        ru="Сообщать и о звонках между сотрудниками",
        advanced=True,
    )
    chat: bool = setting(
        False,
        en="Take what people write to the bot",
        ru="Принимать сообщения, которые пишут боту",
        help_en="In private chats; groups are left alone",
        help_ru="В личных чатах; группы не затрагиваются",
    )
    updates: Literal["poll", "webhook"] = setting(
        "poll",
        en="How messages arrive",
        ru="Как приходят сообщения",
        advanced=True,
        options={
            "poll": {"en": "the gateway asks Telegram", "ru": "шлюз спрашивает Telegram"},
            "webhook": {
                "en": "Telegram calls the gateway, at a public https address",
                "ru": "Telegram обращается к шлюзу по публичному адресу https",
            },
        },
    )
    hook_id: UrlId = hook_id()

    @field_validator("bot_token")
    @classmethod
    def _shape(cls, value: Secret) -> Secret:
        """`<number>:<secret>`. It becomes part of an address, so no other character may be in it."""
        found = re.fullmatch(r"([1-9][0-9]{0,16}):[A-Za-z0-9_-]+", value.reveal())
        if found is None or len(value.reveal()) > 80 or int(found[1]) >= 1 << 54:
            raise BadValue(
                "this is not a bot token: a number, a colon and a secret are expected",
                "это не токен бота: нужны число, двоеточие и секрет",
            )
        return value

    @field_validator("notify_chats", mode="before")
    @classmethod
    def _chats(cls, value: Any) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return value
        places = dict.fromkeys(Place.read(one) for one in value if isinstance(one, int | str))
        if any(not isinstance(one, int | str) for one in value):
            return value
        return tuple(place.chat if place.topic is None else str(place) for place in places)

    @property
    def places(self) -> tuple[Place, ...]:
        """The same as places."""
        return tuple(map(Place.read, self.notify_chats))
