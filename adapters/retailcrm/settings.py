"""The settings of one link to RetailCRM. Owns the fields, their labels and what makes a value valid.

Never reads a row or calls the outside system; whether the link is switched on is a column beside these settings.
Read `codec.py` next.
"""

import re
import secrets
from ipaddress import ip_network
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import field_validator

from adapters.base import BadValue, setting
from adapters.crm_settings import CrmSettings, SentEvents
from gateway.domain.hosts import host_problem
from gateway.domain.secret import Secret


def _visible(value: Secret) -> Secret:
    """A credential goes into a header or a form as it is: it must be one line of visible ASCII."""
    if not re.fullmatch(r"[!-~]+", value.reveal()):
        raise BadValue(
            "it is empty, or has a space or a letter that cannot be in it",
            "здесь пусто, или есть пробел либо буква, которых в ключе быть не может",
        )
    return value


class SendEvents(SentEvents):
    """Which of the four kinds of message are sent."""

    in_: bool = setting(True, en="Incoming call rings", ru="Звонит входящий вызов", alias="in")
    out: bool = setting(True, en="Outgoing call starts", ru="Начат исходящий вызов")
    hangup: bool = setting(True, en="Call has ended", ru="Вызов завершён")
    upload: bool = setting(True, en="Call goes into the log", ru="Вызов попадает в журнал")


class RetailcrmSettings(CrmSettings):
    """How one tenant's account is reached, and what it receives."""

    MAPS: ClassVar[tuple[str, ...]] = ("contact", "order", "chat")
    """A line of its log of calls has no fields of its own."""

    domain: str = setting(
        en="Account address",
        ru="Адрес аккаунта",
        help_en="For example https://example.retailcrm.ru",
        help_ru="Например, https://example.retailcrm.ru",
        max_length=255,
        leads=("api_key", "client_id"),
        widget="url",
        placeholder="https://example.retailcrm.ru",
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
    send_events: SendEvents = setting(
        en="What is sent",
        ru="Что отправлять",
        shared=True,
        default_factory=SendEvents,
    )
    site: str = setting(
        "",
        en="Shop for new clients and orders",
        ru="Магазин для новых клиентов и заказов",
        help_en="The code of a shop; needed where the key sees several",
        help_ru="Код магазина; нужен, если ключу доступны несколько",
        advanced=True,
        pattern=r"^[0-9A-Za-z_-]{0,64}$",
    )
    responsible_any_status: bool = setting(
        False,
        en="Name the responsible employee whatever their status",
        ru="Называть ответственного при любом его статусе",
        help_en="Otherwise only while they are free",
        help_ru="Иначе только пока он свободен",
        advanced=True,
    )
    external_phones: dict[str, str] = setting(
        en="Outside numbers by shop",
        ru="Внешние номера по магазинам",
        help_en="For example 74951230000 = shop-code: from which number RetailCRM calls for an order of this shop",
        help_ru="Например, 74951230000 = код-магазина: с какого номера RetailCRM звонит по заказу этого магазина",
        advanced=True,
        default_factory=dict,
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

    @field_validator("domain")
    @classmethod
    def _one_site(cls, value: str) -> str:
        """`https://name[:port]` and no more; whether it may be connected to is the dialer's decision."""
        text = value.strip()
        parts = urlsplit(text if "://" in text else f"https://{text}")
        # The raw authority is looked at too: whatever is not plainly a name and a port is refused, not repaired.
        if parts.scheme not in ("http", "https") or not re.fullmatch(r"[^\s@/?#\\%]+", parts.netloc):
            raise BadValue(
                "an address like https://example.retailcrm.ru is expected",
                "нужен адрес вида https://example.retailcrm.ru",
            )
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise BadValue(
                "only the address of the account is expected, without a path", "нужен только адрес аккаунта, без пути"
            )
        host = parts.hostname.rstrip(".")
        if (problem := host_problem(host)) is not None:
            raise BadValue(*problem)
        host = f"[{host}]" if ":" in host else host
        try:
            port = parts.port
        except ValueError:
            raise BadValue("the port is not a number from 1 to 65535", "порт — число от 1 до 65535") from None
        return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")

    @field_validator("api_key")
    @classmethod
    def _key(cls, value: Secret) -> Secret:
        return _visible(value)

    @field_validator("client_id")
    @classmethod
    def _client_id(cls, value: Secret) -> Secret:
        return _visible(value)

    @field_validator("external_phones")
    @classmethod
    def _shops(cls, value: dict[str, str]) -> dict[str, str]:
        for number, shop in value.items():
            if not re.fullmatch(r"\+?[0-9]{3,15}", number) or not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", shop):
                raise BadValue(
                    "a number of 3 to 15 digits and the code of a shop are expected, such as 74951230000 = shop-a",
                    "нужны номер из 3–15 цифр и код магазина, например 74951230000 = shop-a",
                )
        return {number.removeprefix("+"): shop for number, shop in value.items()}

    @field_validator("legacy_client_nets")
    @classmethod
    def _nets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(net.strip())) for net in value)
        except ValueError:
            raise BadValue("networks such as 203.0.113.0/24 are expected", "нужны сети вида 203.0.113.0/24") from None
