"""The settings of one Telegram bot. Owns the fields, their labels and what makes a value valid.

Never asks Telegram; whether the bot is switched on is a column beside these settings. Read `codec.py` next.
"""

import re
from typing import Literal

from pydantic import field_validator

from adapters.base import AdapterSettings, setting
from adapters.credentials import UrlId, hook_id
from gateway.domain.secret import Secret


class TelegramSettings(AdapterSettings):
    """Which bot speaks, and where."""

    bot_token: Secret = setting(
        en="Bot token",
        ru="Токен бота",
        help_en="@BotFather gives it, in the form 123456789:AAE…",
        help_ru="Его выдаёт @BotFather, в виде 123456789:AAE…",
        secret=True,
    )
    notify_chats: tuple[int, ...] = setting(
        (),
        en="Chats for call notifications",
        ru="Чаты для уведомлений о звонках",
        help_en="Ids of chats and groups, such as -1001234567890; the bot must be in them",
        help_ru="Идентификаторы чатов и групп, например -1001234567890; бот должен в них состоять",
        max_length=20,
    )
    notify_internal: bool = setting(
        False,
        en="Tell of calls between colleagues too",
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
        help_en="poll: the gateway asks Telegram. webhook: Telegram calls the gateway, at a public https address",
        help_ru="poll: шлюз спрашивает Telegram. webhook: Telegram обращается к шлюзу по публичному адресу https",
        advanced=True,
    )
    hook_id: UrlId = hook_id()
    connect_timeout_s: float = setting(
        3.0, en="Seconds to connect", ru="Секунд на соединение", advanced=True, gt=0, le=30
    )
    read_timeout_s: float = setting(
        3.0, en="Seconds to wait for an answer", ru="Секунд на ожидание ответа", advanced=True, gt=0, le=30
    )
    request_timeout_s: float = setting(
        10.0, en="Seconds for a request as a whole", ru="Секунд на запрос целиком", advanced=True, gt=0, le=60
    )

    @field_validator("bot_token")
    @classmethod
    def _shape(cls, value: Secret) -> Secret:
        """`<number>:<secret>`. It becomes part of an address, so no other character may be in it."""
        found = re.fullmatch(r"([1-9][0-9]{0,16}):[A-Za-z0-9_-]+", value.reveal())
        if found is None or len(value.reveal()) > 80 or int(found[1]) >= 1 << 54:
            raise ValueError("this is not a bot token: a number, a colon and a secret are expected")
        return value

    @field_validator("notify_chats")
    @classmethod
    def _chats(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in value or any(abs(chat) >= 1 << 52 for chat in value):
            raise ValueError("the id of a chat is a number other than 0")
        return tuple(dict.fromkeys(value))
