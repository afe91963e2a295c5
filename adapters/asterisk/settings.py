"""What a tenant enters about one Asterisk. Read `session.py` next."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from adapters.base import AdapterSettings, BadValue, RecordingSource, setting
from gateway.domain.configuration import is_device_name
from gateway.domain.hosts import host_problem
from gateway.domain.secret import Secret
from gateway.domain.templates import check_template
from gateway.domain.text import has_control

_CONTEXT = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


class AsteriskSettings(AdapterSettings):
    """How to reach the manager interface (AMI), and which endpoints are outside lines."""

    host: str = setting(
        en="Host", ru="Адрес", help_en="Name or address of the PBX.", help_ru="Имя или адрес АТС.", max_length=253,
        leads=("secret",),
    )  # fmt: skip
    port: int = setting(5038, en="Port", ru="Порт", ge=1, le=65535, leads=("secret",))
    tls: bool = setting(
        False,
        en="Encrypted connection (TLS)",
        ru="Шифрование (TLS)",
        help_en="AMI over TLS, usually on port 5039.",
        help_ru="AMI через TLS, обычно порт 5039.",
    )
    username: str = setting(en="AMI user", ru="Пользователь AMI", min_length=1, max_length=80)
    secret: Secret = setting(en="AMI password", ru="Пароль AMI", secret=True)
    trunks: tuple[str, ...] = setting(
        (),
        en="Outside lines",
        ru="Внешние линии",
        help_en="Names of the endpoints that are trunks, one a line, such as trunk-0001, DAHDI/33 or i2 for an ISDN line.",
        help_ru="Имена внешних линий (транков), по одному в строке, например trunk-0001, DAHDI/33 или i2 для потока E1.",
    )
    originate_context: str = setting(
        "",
        en="Context for click-to-call",
        ru="Контекст для звонка из CRM",
        help_en="The dialplan context in which employees dial, such as from-internal.",
        help_ru="Контекст набора сотрудников, например from-internal.",
        max_length=80,
    )
    number_format: Literal["plus", "digits", "national"] = setting(
        "plus",
        en="How outside numbers are dialled",
        ru="Как набирать внешние номера",
        advanced=True,
        options={
            "plus": {"en": "with a plus: +375296254070", "ru": "с плюсом: +375296254070"},
            "digits": {"en": "digits alone: 375296254070", "ru": "только цифры: 375296254070"},
            "national": {"en": "as within the country: 80296254070", "ru": "как внутри страны: 80296254070"},
        },
    )
    dial_prefix: str = setting(
        "",
        en="Digits before an outside number",
        ru="Цифры перед внешним номером",
        help_en="Such as 9, where the dialplan wants one for an outside line.",
        help_ru="Например 9, если так набирают выход на внешнюю линию.",
        advanced=True,
        pattern=r"^[0-9*#]{0,8}$",
    )
    employee_rings_s: float = setting(
        30.0,
        en="How long the employee's phone rings for click-to-call, s",
        ru="Сколько звонит телефон сотрудника при звонке из CRM, с",
        advanced=True,
        gt=0,
        le=300,
    )
    recording_url: str = setting(
        "",
        en="Address of recordings",
        ru="Адрес записей",
        help_en="Where a recording can be fetched, such as https://pbx.example/monitor/{year}/{month}/{day}/{file}; also "
        "{path}, {uniqueid}, {linkedid}. Empty: recordings are sent to us.",
        help_ru="Откуда забирать запись, например https://pbx.example/monitor/{year}/{month}/{day}/{file}; ещё {path}, "
        "{uniqueid}, {linkedid}. Пусто: записи присылают нам.",
        max_length=1000,
        leads=("recording_password",),
        widget="url",
    )
    recording_user: str = setting(
        "", en="User for recordings", ru="Пользователь для записей", advanced=True, max_length=80
    )
    recording_password: Secret = setting(
        en="Password for recordings",
        ru="Пароль для записей",
        secret=True,
        advanced=True,
        default_factory=lambda: Secret(""),
    )

    connect_timeout_s: float = setting(
        10.0, en="Connect timeout, s", ru="Ожидание соединения, с", advanced=True, gt=0, le=30
    )
    login_timeout_s: float = setting(10.0, en="Login timeout, s", ru="Ожидание входа, с", advanced=True, gt=0, le=60)
    ping_every_s: float = setting(
        5.0, en="Ping interval, s", ru="Интервал проверки связи, с", advanced=True, ge=1, le=60
    )
    dead_after_s: float = setting(
        15.0,
        en="Silence that counts as a lost link, s",
        ru="Тишина, после которой связь потеряна, с",
        advanced=True,
        gt=0,
        le=300,
    )
    buffer_mib: int = setting(
        64, en="Buffer for bursts, MiB", ru="Буфер для всплесков, МиБ", advanced=True, ge=1, le=128
    )

    @field_validator("host")
    @classmethod
    def _host_is_one_name(cls, host: str) -> str:
        host = host.strip()
        if not host or "/" in host or any(c.isspace() for c in host) or has_control(host):
            raise BadValue(
                "enter a host name or an address without http:// and without spaces",
                "введите имя или адрес без http:// и без пробелов",
            )
        if (problem := host_problem(host)) is not None:
            raise BadValue(*problem)
        return host

    @field_validator("username")
    @classmethod
    def _username_is_one_line(cls, username: str) -> str:
        if has_control(username):
            raise BadValue(
                "the user name must not contain control characters",
                "в имени пользователя не может быть управляющих знаков",
            )
        return username

    @field_validator("secret")
    @classmethod
    def _secret_is_one_line(cls, secret: Secret) -> Secret:
        if not secret or has_control(secret.reveal()) or len(secret.reveal()) > 200:
            raise BadValue(
                "the password must be 1 to 200 characters without control characters",
                "пароль — от 1 до 200 знаков без управляющих",
            )
        return secret

    @field_validator("trunks")
    @classmethod
    def _trunks_are_endpoint_names(cls, trunks: tuple[str, ...]) -> tuple[str, ...]:
        for trunk in trunks:
            if not is_device_name(trunk.strip()):
                raise BadValue(
                    f"not the name of an endpoint: {trunk!r}; write it as in pjsip.conf, such as trunk-0001, or with its "
                    "technology, such as DAHDI/33",
                    f"это не имя линии: {trunk!r}; пишите как в pjsip.conf, например trunk-0001, или с технологией, "
                    "например DAHDI/33",
                )
        return tuple(dict.fromkeys(trunk.strip() for trunk in trunks))

    @field_validator("recording_url")
    @classmethod
    def _template_makes_an_address(cls, template: str) -> str:
        if template:
            try:
                check_template(template)
            except ValueError as error:
                raise BadValue(
                    str(error),
                    "нужен один адрес http:// или https:// без пробелов и пароля, хотя бы с одним полем, например "
                    "https://pbx.example/monitor/{file}; имя сервера полей не содержит",
                ) from None
            if (problem := host_problem(urlsplit(template).hostname or "")) is not None:
                raise BadValue(*problem)
        return template

    @field_validator("recording_user")
    @classmethod
    def _user_fits_a_header(cls, user: str) -> str:
        if ":" in user or has_control(user):
            raise BadValue(
                "the user name must hold neither ':' nor control characters",
                "в имени пользователя не может быть «:» и управляющих знаков",
            )
        return user

    @field_validator("recording_password")
    @classmethod
    def _password_is_one_line(cls, password: Secret) -> Secret:
        if has_control(password.reveal()) or len(password.reveal()) > 200:
            raise BadValue(
                "the password must be at most 200 characters, without control characters",
                "пароль — не больше 200 знаков без управляющих",
            )
        return password

    def recording_source(self) -> RecordingSource | None:
        """Where recordings can be fetched."""
        if not self.recording_url:
            return None
        return RecordingSource(template=self.recording_url, user=self.recording_user, password=self.recording_password)

    @field_validator("originate_context")
    @classmethod
    def _context_is_a_name(cls, context: str) -> str:
        if context and not _CONTEXT.fullmatch(context):
            raise BadValue(
                "a context is letters, digits, '-', '_', '.' and ':' only",
                "контекст — только латинские буквы, цифры, «-», «_», «.» и «:»",
            )
        return context
