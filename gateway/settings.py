"""Process settings: read once from the environment, prefix `GATEWAY_`, every variable with a `_FILE` twin.

An unknown variable or a bad value stops the start with all problems listed at once. The README's table is made from the
fields here. This module never touches the database.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from gateway.domain.limiter import Rate
from gateway.domain.secret import Secret
from gateway.smtp import SmtpPlace, read_smtp_url

PREFIX = "GATEWAY_"
LEAST_TOKEN = 24
Network = IPv4Network | IPv6Network
Address = tuple[str, int]


class SettingsError(Exception):
    """The environment is not usable; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _address(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    host = host.strip("[]")
    if not separator or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8000")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError("the host must be an IP address, such as 127.0.0.1 or [::]") from None
    return host, int(port)


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"must be CIDRs separated by commas: {error}") from None


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http:// or https:// address")
    return text.rstrip("/")


def _dsn(text: str) -> Secret:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://")
    return Secret(text)


def _long_token(text: str) -> Secret:
    if len(text) < LEAST_TOKEN:
        raise ValueError(f"must be at least {LEAST_TOKEN} characters long, such as `openssl rand -hex 24` makes")
    return Secret(text)


def _vault_key(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,99}", text):
        raise ValueError("must be the name of a transit key: letters, digits, _, . and -")
    return text


def _providers(text: str) -> Mapping[str, str]:
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise TypeError
        return {str(name): _url(str(url)) for name, url in value.items()}
    except (TypeError, ValueError):
        raise ValueError('must be a JSON map, such as {"PROVIDER": "http://127.0.0.1:9001"}') from None


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise ValueError("must be a whole number of MiB, such as 256")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise ValueError("must be a number of seconds between 0.1 and 86400, such as 90")
    return value


def _span(text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    try:
        span = _seconds(first.strip()), _seconds((last or first).strip())
    except ValueError:
        span = (1.0, 0.0)
    if span[0] > span[1]:
        raise ValueError("must be seconds, or the least and the most of them, between 0.1 and 86400: 240 or 180-300")
    return span


def _rate(text: str) -> Rate:
    parts = [part.strip() for part in text.replace("/", ",").split(",")]
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 1_000_000 for part in parts):
        raise ValueError("must be requests a second and how many at once, such as 50,200")
    a_second, at_once = int(parts[0]), int(parts[-1]) if len(parts) == 2 else 4 * int(parts[0])
    if at_once < a_second:
        raise ValueError("must be at least as many at once as in a second, such as 50,200")
    return Rate(at_once, at_once / a_second)


def _origins(text: str) -> tuple[str, ...]:
    found = tuple(part.strip().rstrip("/").lower() for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query):
            raise ValueError("must be origins separated by commas, such as https://crm.example, or *")
    return found


def _one_of(*allowed: str) -> Any:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _level(text: str) -> str:
    return str(_one_of("DEBUG", "INFO", "WARNING", "ERROR")(text.upper()))


def _var(default: Any, parse: Any, meaning: str, shown: str = "") -> Any:
    metadata = {"parse": parse, "meaning": meaning, "shown": shown}
    if isinstance(default, dict):
        return field(default_factory=lambda: MappingProxyType(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of the process. Timeouts and sizes that nobody needs to change are the constants below."""

    bind: Address = _var(
        ("127.0.0.1", 8000), _address, "people, Config API and every machine address", "127.0.0.1:8000"
    )
    intake_bind: Address = _var(
        ("127.0.0.1", 8001), _address, "the fast listener for machines: posted events and /health", "127.0.0.1:8001"
    )
    public_url: str = _var("", _url, "used in links sent out", "http://BIND")
    data_dir: Path = _var(
        Path("./var"), Path, "embedded PostgreSQL, the spool, recordings and the generated master key", "./var"
    )
    database_url: Secret | None = _var(None, _dsn, "postgresql://… of a real server", "unset: embedded")
    database_owner_url: Secret | None = _var(
        None,
        _dsn,
        "the same database as the owner of its tables, for migrations and partitions alone",
        "unset: DATABASE_URL",
    )
    master_key_file: Path | None = _var(
        None, Path, "the master key", "unset: systemd's credentials directory, else DATA_DIR/master.key"
    )
    vault_url: str = _var(
        "", _url, "HashiCorp Vault, whose transit engine has the master key instead of a file", "unset"
    )
    vault_token_file: Path | None = _var(None, Path, "the file with its token, read anew for each request", "unset")
    vault_key: str = _var("gateway", _vault_key, "the name of the transit key", "gateway")
    allowed_private_nets: tuple[Network, ...] = _var(
        (),
        _networks,
        "CIDRs of private networks in which PBXes and other addresses that tenants supply may be",
        "empty",
    )
    provider_urls: Mapping[str, str] = _var(
        {}, _providers, "JSON map from provider to base URL, replacing the public one", "{}"
    )
    apps_file: Path | None = _var(
        None,
        Path,
        "JSON or YAML with credentials of the installation's applications at outside providers, for every tenant",
        "unset",
    )
    trusted_proxies: tuple[Network, ...] = _var((), _networks, "CIDRs whose X-Forwarded-* is believed", "empty")
    operator_token: Secret | None = _var(
        None,
        _long_token,
        "bearer token for /integrations, /cache, /stats, /metrics, of 24 characters or more",
        "unset: loopback only, embedded mode only",
    )
    jwks_url: str = _var("", _url, "the keys (JWKS) of an outside identity service whose tokens are accepted", "unset")
    jwt_audience: str = _var("", str, "the audience that such a token must name", "unset")
    api_per_key: Rate = _var(
        Rate(200, 4.0), _rate, "requests a second by one API key, and how many at once: 50,200", "50,200"
    )
    api_per_address: Rate = _var(Rate(400, 4.0), _rate, "the same for one address that calls the API", "100,400")
    cors_origins: tuple[str, ...] = _var(
        (), _origins, "origins whose pages may call the API, such as https://crm.example, or * for all", "none"
    )
    spool_mib: int = _var(
        256,
        _mebibytes,
        "how much DATA_DIR/spool may take while PostgreSQL is away: for posted events, and as much again for PBXes",
        "256",
    )
    cache_ttl_s: float = _var(
        90.0, _seconds, "after how many seconds a company's configuration in memory is read again when it is used", "90"
    )
    cache_refresh_s: tuple[float, float] = _var(
        (180.0, 300.0), _span, "how many seconds lie between two readings of all companies' configuration", "180-300"
    )
    log_format: str = _var("", _one_of("text", "json"), "text or json lines", "text on a terminal, else json")
    log_level: str = _var("INFO", _level, "DEBUG, INFO, WARNING or ERROR", "INFO")
    s3_url: str = _var("", _url, "an S3-compatible store for recordings", "unset: DATA_DIR/recordings")
    s3_bucket: str = _var("", str, "its bucket, for this installation alone", "unset")
    s3_access_key: Secret | None = _var(None, Secret, "its access key", "unset")
    s3_secret_key: Secret | None = _var(None, Secret, "its secret key", "unset")
    s3_region: str = _var("us-east-1", str, "its region", "us-east-1")
    smtp_url: SmtpPlace | None = _var(
        None,
        read_smtp_url,
        "where mail leaves: smtp://USER:PASSWORD@HOST:587?from=ADDRESS, or smtps://…",
        "unset: no mail",
    )
    notify_file: Path | None = _var(
        None,
        Path,
        "a YAML file with who hears of trouble of the installation: email, when, chats of a messenger, through",
        "unset",
    )
    llm_url: str = _var("", _url, "any OpenAI-compatible endpoint", "unset")
    llm_api_key: Secret | None = _var(None, Secret, "its key", "unset")
    llm_model: str = _var("gpt-5.2", str, "its model", "gpt-5.2")

    database_size: int = 8
    """Connections of each of the two pools."""
    grace_s: float = 8.0
    """How long deliveries and open requests may finish after SIGTERM."""
    loop_held_s: float = 0.25
    """A step of the event loop that takes longer is logged."""

    @property
    def embedded(self) -> bool:
        """True without DATABASE_URL: the gateway runs its own PostgreSQL."""
        return self.database_url is None

    @property
    def base_url(self) -> str:
        """What links sent out begin with."""
        return self.public_url or f"http://{_address_text(self.bind)}"

    @property
    def operator_open(self) -> bool:
        """Whether operator addresses answer without a token (to loopback peers alone): see the contract, section 2."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            loopback = ip_address(host).is_loopback
        except ValueError:
            loopback = host == "localhost"
        return self.operator_token is None and self.embedded and loopback


SHARED = (
    "bind", "intake_bind", "public_url", "master_key_file", "vault_url", "vault_token_file", "vault_key", "allowed_private_nets",
    "provider_urls", "apps_file", "trusted_proxies",
)  # fmt: skip
"""What a running gateway leaves for the commands beside it. None of these is a secret."""


def shared_environment(settings: Settings) -> dict[str, str]:
    """Variables that express `settings`, of those that commands beside a running gateway need and that are set."""
    texts = {
        "bind": _address_text(settings.bind),
        "intake_bind": _address_text(settings.intake_bind),
        "public_url": settings.public_url,
        "master_key_file": str(settings.master_key_file.absolute()) if settings.master_key_file else "",
        "vault_url": settings.vault_url,
        "vault_token_file": str(settings.vault_token_file.absolute()) if settings.vault_token_file else "",
        "vault_key": settings.vault_key if settings.vault_url else "",
        "allowed_private_nets": ",".join(map(str, settings.allowed_private_nets)),
        "provider_urls": json.dumps(dict(settings.provider_urls)) if settings.provider_urls else "",
        "apps_file": str(settings.apps_file.absolute()) if settings.apps_file else "",
        "trusted_proxies": ",".join(map(str, settings.trusted_proxies)),
    }
    return {PREFIX + name.upper(): texts[name] for name in SHARED if texts[name]}


def with_shared(environment: Mapping[str, str], shared: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The environment with what a running gateway shares where it sets nothing itself, and what was taken from there."""
    taken = {
        name: value for item in SHARED
        if isinstance(value := shared.get(name := PREFIX + item.upper()), str)
        and not environment.get(name) and not environment.get(f"{name}_FILE")
    }  # fmt: skip
    return {**environment, **taken}, list(taken)


def _address_text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def variables() -> dict[str, Any]:
    """Variable name to dataclass field, for the environment and the README's table."""
    fields = Settings.__dataclass_fields__
    return {PREFIX + name.upper(): item for name, item in fields.items() if "parse" in item.metadata}


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process. Raises SettingsError with every problem at once."""
    known, problems, values = variables(), [], dict[str, Any]()
    # MASTER_KEY_FILE is a file already; its own twin would only confuse.
    twins = {name: f"{name}_FILE" for name in known if not name.endswith("_FILE")}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and name not in twins.values():
            problems.append(f"{name}: no such setting")
    for name, item in known.items():
        text, source = environment.get(name), name
        twin = environment.get(twins.get(name, ""))
        if text and twin:
            problems.append(f"{name}: set together with {name}_FILE; keep one")
            continue
        if twin:
            source = twins[name]
            try:
                text = Path(twin).read_text("utf-8").strip()
            except (OSError, UnicodeError) as error:
                problems.append(f"{source}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}")
                continue
        if not text:
            continue  # empty is unset, as EnvironmentFile= and compose files write it
        try:
            values[item.name] = item.metadata["parse"](text)
        except ValueError as error:
            problems.append(f"{source}: {error}")
    bucket = [PREFIX + name for name in ("S3_URL", "S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY")]
    missing = [name for name in bucket if not values.get(known[name].name)]
    if 0 < len(missing) < len(bucket):
        problems += [f"{name}: must be set too, as other S3 settings are" for name in missing]
    if bool(values.get("jwks_url")) != bool(values.get("jwt_audience")):
        problems.append(f"{PREFIX}JWKS_URL and {PREFIX}JWT_AUDIENCE: set both or neither")
    if ("vault_url" in values) != ("vault_token_file" in values):
        here, there = ("URL", "TOKEN_FILE") if "vault_url" in values else ("TOKEN_FILE", "URL")
        problems.append(f"{PREFIX}VAULT_{there}: must be set too, as {PREFIX}VAULT_{here} is")
    if "vault_url" in values and "master_key_file" in values:
        problems.append(
            f"{PREFIX}MASTER_KEY_FILE: set together with {PREFIX}VAULT_URL; the master key is in Vault or in a file: keep one"
        )
    if "database_owner_url" in values and "database_url" not in values:
        problems.append(f"{PREFIX}DATABASE_OWNER_URL: needs {PREFIX}DATABASE_URL beside it")
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)
    if not settings.log_format:
        values["log_format"] = "text" if sys.stderr.isatty() else "json"
        settings = Settings(**values)
    return settings
