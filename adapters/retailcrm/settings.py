"""The settings of one link to RetailCRM. Owns the fields, their labels and what makes a value valid.

Never reads a row or asks the outside system; whether the link is switched on is a column beside these settings.
Read `codec.py` next.
"""

import re
import secrets
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from adapters.base import AdapterSettings, setting
from gateway.domain.secret import Secret

_NUMBER = re.compile(r"[0-9A-Za-z_.*#-]{1,40}")


def _visible(name: str, value: Secret) -> Secret:
    """A credential goes into a header or a form as it is: it must be one line of visible ASCII."""
    if not re.fullmatch(r"[!-~]+", value.reveal()):
        raise ValueError(f"{name} is empty, or has a space or a letter that cannot be in it")
    return value


class SendEvents(AdapterSettings):
    """Which of the four kinds of message are sent."""

    in_: bool = setting(True, en="Incoming call rings", ru="Звонит входящий вызов", alias="in")
    out: bool = setting(True, en="Outgoing call starts", ru="Начат исходящий вызов")
    hangup: bool = setting(True, en="Call has ended", ru="Вызов завершён")
    upload: bool = setting(True, en="Call goes into the log", ru="Вызов попадает в журнал")


class RetailcrmSettings(AdapterSettings):
    """How one tenant's account is reached, and what it is told."""

    domain: str = setting(
        en="Account address",
        ru="Адрес аккаунта",
        help_en="For example https://example.retailcrm.ru",
        help_ru="Например, https://example.retailcrm.ru",
        max_length=255,
        leads=("api_key", "client_id"),
    )
    api_key: Secret = setting(
        en="API key",
        ru="Ключ API",
        help_en="Settings, Integration, API keys in RetailCRM",
        help_ru="В RetailCRM: Настройки, Интеграция, Ключи доступа к API",
        secret=True,
    )
    client_id: Secret = setting(
        en="Client id",
        ru="Идентификатор клиента",
        help_en="RetailCRM sends it back with every request to us. Made by itself; anyone who knows it can place calls",
        help_ru="RetailCRM присылает его в каждом запросе к нам. Создаётся сам; кто его знает, может звонить",
        secret=True,
        advanced=True,
        unique=True,
        default_factory=lambda: Secret(secrets.token_urlsafe(32)),
    )
    user_extensions: Mapping[str, str | None] = setting(
        en="Internal numbers of users",
        ru="Внутренние номера пользователей",
        help_en="The id of a RetailCRM user and their internal number; empty takes the number away",
        help_ru="Идентификатор пользователя RetailCRM и его внутренний номер; пустое значение отнимает номер",
        stored=True,
        default_factory=dict,
    )
    send_events: SendEvents = setting(
        en="What is sent",
        ru="Что отправлять",
        shared=True,
        default_factory=SendEvents,
    )
    responsible_any_status: bool = setting(
        False,
        en="Name the responsible employee whatever their status",
        ru="Называть ответственного при любом его статусе",
        help_en="Otherwise only while they are free",
        help_ru="Иначе только пока он свободен",
        advanced=True,
    )
    module_code: str = setting(
        "",
        en="Code of the module",
        ru="Код модуля",
        help_en="Made by itself. The code of an earlier module takes over its place and its internal numbers",
        help_ru="Создаётся сам. Код прежнего модуля даёт занять его место вместе с внутренними номерами",
        advanced=True,
        pattern=r"^[0-9A-Za-z_-]{0,64}$",
    )
    legacy_client_id: bool = setting(
        False,
        en="Accept the company's number as client id",
        ru="Принимать номер компании вместо идентификатора клиента",
        help_en="For old set-ups only, and only from the addresses below",
        help_ru="Только для старых настроек и только с адресов ниже",
        advanced=True,
    )
    legacy_client_nets: tuple[str, ...] = setting(
        (),
        en="Addresses that may do so",
        ru="Адреса, которым это разрешено",
        help_en="Networks such as 203.0.113.0/24",
        help_ru="Сети, например 203.0.113.0/24",
        advanced=True,
    )
    connect_timeout_s: float = setting(
        2.0, en="Seconds to connect", ru="Секунд на соединение", advanced=True, gt=0, le=30
    )
    read_timeout_s: float = setting(
        3.0, en="Seconds to wait for an answer", ru="Секунд на ожидание ответа", advanced=True, gt=0, le=30
    )
    request_timeout_s: float = setting(
        10.0, en="Seconds for a request as a whole", ru="Секунд на запрос целиком", advanced=True, gt=0, le=60
    )

    @field_validator("domain")
    @classmethod
    def _one_site(cls, value: str) -> str:
        """`https://name[:port]` and no more; whether it may be connected to is the dialer's to say."""
        text = value.strip()
        parts = urlsplit(text if "://" in text else f"https://{text}")
        # The raw authority is looked at too: whatever is not plainly a name and a port is refused, not repaired.
        if parts.scheme not in ("http", "https") or not re.fullmatch(r"[^\s@/?#\\%]+", parts.netloc):
            raise ValueError("an address like https://example.retailcrm.ru is expected")
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("only the address of the account is expected, without a path")
        host = parts.hostname.rstrip(".")
        host = f"[{host}]" if ":" in host else host
        port = parts.port  # raises ValueError for a number that is no port
        return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")

    @field_validator("api_key")
    @classmethod
    def _key(cls, value: Secret) -> Secret:
        return _visible("the key", value)

    @field_validator("client_id")
    @classmethod
    def _client_id(cls, value: Secret) -> Secret:
        return _visible("the client id", value)

    @field_validator("user_extensions", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML reads `19: 150` as numbers; an empty field of a form takes the number away."""
        if not isinstance(value, Mapping):
            return value
        return {
            str(user).strip() if isinstance(user, int | str) else user: (
                str(number).strip() or None if isinstance(number, int | str) else number
            )
            for user, number in value.items()
        }

    @field_validator("user_extensions")
    @classmethod
    def _numbers(cls, value: Mapping[str, str | None]) -> Mapping[str, str | None]:
        for user, number in value.items():
            if not re.fullmatch(r"[0-9]{1,18}", user):
                raise ValueError(f"the id of a user is a number: {user[:40]!r}")
            if number is not None and not _NUMBER.fullmatch(number):
                raise ValueError(f"not an internal number: {number[:40]!r}")
        return dict(value)

    @field_validator("legacy_client_nets")
    @classmethod
    def _nets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(net.strip())) for net in value)

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        """A number rings for one person; moving it is done by taking it from the other first."""
        owners: dict[str, list[str]] = {}
        for user, number in self.user_extensions.items():
            if number is not None:
                owners.setdefault(number, []).append(user)
        if twice := {number: users for number, users in owners.items() if len(users) > 1}:
            reported = "; ".join(f"{number}: {', '.join(users)}" for number, users in twice.items())
            raise ValueError(f"user_extensions: a number with two owners ({reported})")
        return self
