"""The environment as settings: defaults, values, secrets from files, and every problem at once."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.limiter import Rate
from gateway.domain.secret import Secret
from gateway.settings import (
    PREFIX,
    SHARED,
    Settings,
    SettingsError,
    read_settings,
    shared_environment,
    variables,
    with_shared,
)

MASTER = "GATEWAY_MASTER_KEY_FILE"


def read(**values: str) -> Settings:
    return read_settings({PREFIX + name: value for name, value in values.items()})


def problems(**values: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read(**values)
    return raised.value.problems


def test_defaults() -> None:
    settings = read()
    assert (settings.bind, settings.intake_bind) == (("127.0.0.1", 8000), ("127.0.0.1", 8001))
    assert settings.data_dir == Path("./var")
    assert settings.embedded
    assert settings.base_url == "http://127.0.0.1:8000"
    assert (settings.database_url, settings.master_key_file, settings.operator_token) == (None, None, None)
    assert (settings.allowed_private_nets, settings.trusted_proxies) == ((), ())
    assert dict(settings.provider_urls) == {}
    assert (settings.log_level, settings.llm_model) == ("INFO", "gpt-5.2")
    assert settings.log_format in ("text", "json")


def test_names_without_our_prefix_are_nobody_s_business() -> None:
    assert read_settings({"PATH": "/bin", "DATABASE_URL": "nonsense", "gateway_bind": "x"}) == read()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("BIND", "0.0.0.0:80", ("0.0.0.0", 80)),
        ("BIND", "[::1]:8000", ("::1", 8000)),
        ("INTAKE_BIND", "127.0.0.1:0", ("127.0.0.1", 0)),
        ("APPS_FILE", "/etc/gateway/apps.yaml", Path("/etc/gateway/apps.yaml")),
        ("CACHE_TTL_S", "0.5", 0.5),
        ("CACHE_REFRESH_S", "60", (60.0, 60.0)),
        ("CACHE_REFRESH_S", "180 - 300", (180.0, 300.0)),
        ("PUBLIC_URL", "https://gw.example/", "https://gw.example"),
        ("DATA_DIR", "/srv/gateway", Path("/srv/gateway")),
        ("DATABASE_URL", "postgresql://u:p@db/gateway", Secret("postgresql://u:p@db/gateway")),
        ("MASTER_KEY_FILE", "/etc/gateway/key", Path("/etc/gateway/key")),
        ("ALLOWED_PRIVATE_NETS", "127.0.0.0/8, fd00::/8,", (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))),
        ("TRUSTED_PROXIES", "10.0.0.1", (ip_network("10.0.0.1/32"),)),
        ("PROVIDER_URLS", '{"one": "http://127.0.0.1:9001/"}', {"one": "http://127.0.0.1:9001"}),
        ("OPERATOR_TOKEN", "t0ken" * 5, Secret("t0ken" * 5)),
        ("LOG_FORMAT", "json", "json"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("LLM_URL", "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("LLM_API_KEY", "k", Secret("k")),
        ("LLM_MODEL", "another", "another"),
        ("API_PER_KEY", "50,200", Rate(200, 4.0)),
        ("API_PER_KEY", "5", Rate(20, 4.0)),
        ("API_PER_ADDRESS", "10/10", Rate(10, 1.0)),
        (
            "CORS_ORIGINS",
            "https://CRM.example/, http://localhost:3000",
            ("https://crm.example", "http://localhost:3000"),
        ),
        ("CORS_ORIGINS", "*", ("*",)),
    ],
)
def test_values(name: str, text: str, expected: Any) -> None:
    assert getattr(read(**{name: text}), name.lower()) == expected


@pytest.mark.parametrize("name", [name.removeprefix(PREFIX) for name in variables()])
def test_empty_is_unset(name: str) -> None:
    twin = {} if name.endswith("_FILE") else {f"{name}_FILE": ""}
    assert read(**{name: "", **twin}) == read()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BIND", "8000"),
        ("BIND", "127.0.0.1:http"),
        ("BIND", "127.0.0.1:65536"),
        ("BIND", "localhost:8000"),
        ("PUBLIC_URL", "gw.example"),
        ("PUBLIC_URL", "ftp://gw.example"),
        ("PUBLIC_URL", "https://gw.example/?x=1"),
        ("DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("ALLOWED_PRIVATE_NETS", "127.0.0.1/8"),
        ("TRUSTED_PROXIES", "everyone"),
        ("PROVIDER_URLS", "[]"),
        ("PROVIDER_URLS", '{"one": "nowhere"}'),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("LLM_URL", "localhost:11434"),
        ("SPOOL_MIB", "0"),
        ("SPOOL_MIB", "1.5"),
        ("API_PER_KEY", "0"),
        ("API_PER_KEY", "1,2,3"),
        ("API_PER_ADDRESS", "many"),
        ("API_PER_ADDRESS", "50,10"),
        ("CORS_ORIGINS", "crm.example"),
        ("CORS_ORIGINS", "https://crm.example/path"),
    ],
)
def test_bad_values(name: str, text: str) -> None:
    (problem,) = problems(**{name: text})
    assert problem.startswith((f"{PREFIX}{name}: must b", f"{PREFIX}{name}: the host must b"))
    assert "hunter2" not in problem


def test_every_problem_at_once(tmp_path: Path) -> None:
    found = problems(
        BIND="8000",
        BINDE="127.0.0.1:8000",
        LOG_LEVEL="LOUD",
        OPERATOR_TOKEN="a" * 24,
        OPERATOR_TOKEN_FILE=str(tmp_path / "token"),
        LLM_API_KEY_FILE=str(tmp_path / "missing"),
        MASTER_KEY_FILE_FILE="/etc/gateway/key",
        DATABASE_SIZE="9",
    )
    assert [problem.partition(":")[0].removeprefix(PREFIX) for problem in found] == [
        "BINDE", "DATABASE_SIZE", "MASTER_KEY_FILE_FILE", "BIND", "OPERATOR_TOKEN", "LOG_LEVEL", "LLM_API_KEY_FILE",
    ]  # fmt: skip
    assert found[0] == "GATEWAY_BINDE: no such setting"
    assert "keep one" in found[4]
    assert found[6].endswith("No such file or directory")


@pytest.mark.parametrize("name", [name for name in variables() if not name.endswith("_FILE")])
def test_each_has_a_file_twin(name: str, tmp_path: Path) -> None:
    values = {
        "bind": "127.0.0.1:1", "intake_bind": "127.0.0.1:2", "public_url": "https://x.example", "data_dir": "/x",
        "database_url": "postgresql://u:p@db/x", "allowed_private_nets": "10.0.0.0/8", "provider_urls": '{"a": "http://b"}',
        "trusted_proxies": "10.0.0.0/8", "operator_token": "secret" * 4, "log_format": "json", "log_level": "ERROR",
        "s3_url": "https://s3.example", "s3_bucket": "calls", "s3_access_key": "AK", "s3_secret_key": "SK",
        "s3_region": "eu-1", "llm_url": "http://x.example", "llm_api_key": "key", "llm_model": "m",
        "spool_mib": "64", "cache_ttl_s": "30", "cache_refresh_s": "60-90", "database_owner_url": "postgresql://o:p@db/x",
        "jwks_url": "https://id.example/keys.json", "jwt_audience": "gateway", "api_per_key": "5,20", "api_per_address": "10",
        "cors_origins": "https://crm.example",
        "vault_url": "https://vault.example:8200", "vault_key": "telephony",
        "smtp_url": "smtp://u:p@mail.example:587?from=gw@x.example",
    }  # fmt: skip
    text = values[name.removeprefix(PREFIX).lower()]
    file = tmp_path / "value"
    file.write_text(f"{text}\n")
    # A store wants all of its settings or none.
    store = {PREFIX + other.upper(): text for other, text in values.items() if other.startswith("s3_")}
    others = {other: text for other, text in store.items() if name in store and other != name}
    for one, other in (
        ("DATABASE_OWNER_URL", "DATABASE_URL"),
        ("JWKS_URL", "JWT_AUDIENCE"),
        ("JWT_AUDIENCE", "JWKS_URL"),
    ):
        if name == PREFIX + one:
            others = {PREFIX + other: values[other.lower()]}
    if name == "GATEWAY_VAULT_URL":
        others = {"GATEWAY_VAULT_TOKEN_FILE": "/run/token"}
    assert read_settings({f"{name}_FILE": str(file), **others}) == read_settings({name: text, **others})


def test_a_store_wants_all_of_its_settings() -> None:
    assert problems(S3_URL="https://s3.example", S3_BUCKET="calls") == [
        "GATEWAY_S3_ACCESS_KEY: must be set too, as other S3 settings are",
        "GATEWAY_S3_SECRET_KEY: must be set too, as other S3 settings are",
    ]


def test_tokens_of_an_identity_service_need_an_audience() -> None:
    for one in ("JWKS_URL", "JWT_AUDIENCE"):
        assert problems(**{one: "https://id.example/keys.json"}) == [
            "GATEWAY_JWKS_URL and GATEWAY_JWT_AUDIENCE: set both or neither"
        ]


def test_a_file_twin_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"\xff\xfe")
    assert problems(OPERATOR_TOKEN_FILE=str(file)) == ["GATEWAY_OPERATOR_TOKEN_FILE: cannot be read: not UTF-8"]


def test_a_bad_value_from_a_file_names_the_twin(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("mysql://u:hunter2@db/x")
    assert problems(DATABASE_URL_FILE=str(file)) == ["GATEWAY_DATABASE_URL_FILE: must begin with postgresql://"]


@pytest.mark.parametrize(
    ("values", "is_open"),
    [
        ({}, True),
        ({"PUBLIC_URL": "http://localhost:8000"}, True),
        ({"PUBLIC_URL": "https://gw.example"}, False),
        ({"BIND": "0.0.0.0:8000"}, False),
        ({"OPERATOR_TOKEN": "t" * 24}, False),
        ({"DATABASE_URL": "postgresql://u@db/x"}, False),
    ],
)
def test_operators_need_a_token_unless_all_is_local(values: dict[str, str], is_open: bool) -> None:
    assert read(**values).operator_open is is_open


def test_secrets_do_not_show_in_settings() -> None:
    settings = read(DATABASE_URL="postgresql://u:hunter2@db/x", OPERATOR_TOKEN="hunter3" * 4, LLM_API_KEY="hunter4")
    assert "hunter" not in repr(settings)


def test_what_a_running_gateway_shares_with_the_commands_beside_it() -> None:
    running = read(
        BIND="[::1]:8010", ALLOWED_PRIVATE_NETS="127.0.0.0/8,10.0.0.0/8", PUBLIC_URL="https://gw.example",
        PROVIDER_URLS='{"telegram": "http://127.0.0.1:9001"}', TRUSTED_PROXIES="192.0.2.0/24",
        APPS_FILE="/etc/gateway/apps.yaml",
        MASTER_KEY_FILE="/etc/gateway/master.key", OPERATOR_TOKEN="hunter2" * 4, DATABASE_URL="postgresql://u:hunter2@db/g",
        S3_URL="https://s3.example", S3_BUCKET="b", S3_ACCESS_KEY="hunter2", S3_SECRET_KEY="hunter2", LLM_API_KEY="hunter2",
    )  # fmt: skip
    shared = shared_environment(running)
    assert "hunter2" not in str(shared)
    environment, taken = with_shared({"PATH": "/bin"}, shared)
    assert taken == [PREFIX + name.upper() for name in SHARED if not name.startswith("vault_")]
    beside = read_settings(environment)
    assert [getattr(beside, name) for name in SHARED] == [getattr(running, name) for name in SHARED]
    # What the command's own environment says goes before; nothing else is taken, whatever the note holds.
    own = {"GATEWAY_BIND": "127.0.0.1:1", "GATEWAY_PUBLIC_URL_FILE": "/x"}
    environment, taken = with_shared(own, {**shared, "GATEWAY_OPERATOR_TOKEN": "x", "GATEWAY_TRUSTED_PROXIES": 5})
    assert environment["GATEWAY_BIND"] == "127.0.0.1:1"
    assert not {"GATEWAY_PUBLIC_URL", "GATEWAY_OPERATOR_TOKEN", "GATEWAY_TRUSTED_PROXIES"} & environment.keys()
    assert "GATEWAY_INTAKE_BIND" in taken


def test_the_operators_token_has_a_least_length() -> None:
    (problem,) = problems(OPERATOR_TOKEN="x" * 23)
    assert problem.startswith("GATEWAY_OPERATOR_TOKEN: must be at least 24 characters long")
    assert "xxx" not in problem


def test_the_master_key_is_in_vault_or_in_a_file() -> None:
    found = read(VAULT_URL="https://vault.example:8200/", VAULT_TOKEN_FILE="/run/vault/token")
    assert (found.vault_url, found.vault_token_file, found.vault_key) == (
        "https://vault.example:8200", Path("/run/vault/token"), "gateway",
    )  # fmt: skip
    shared = shared_environment(found)
    assert shared["GATEWAY_VAULT_TOKEN_FILE"] == "/run/vault/token"
    assert problems(VAULT_URL="https://v.example", VAULT_TOKEN_FILE="/t", MASTER_KEY_FILE="/k") == [
        "GATEWAY_MASTER_KEY_FILE: set together with GATEWAY_VAULT_URL; the master key is in Vault or in a file: keep one"
    ]
    assert problems(VAULT_URL="https://v.example") == [
        "GATEWAY_VAULT_TOKEN_FILE: must be set too, as GATEWAY_VAULT_URL is"
    ]
    assert problems(VAULT_TOKEN_FILE="/t") == ["GATEWAY_VAULT_URL: must be set too, as GATEWAY_VAULT_TOKEN_FILE is"]
    (bad,) = problems(VAULT_URL="https://v.example", VAULT_TOKEN_FILE="/t", VAULT_KEY="../keys")
    assert bad.startswith("GATEWAY_VAULT_KEY: must be the name of a transit key")
