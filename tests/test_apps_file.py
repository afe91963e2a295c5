"""`GATEWAY_APPS_FILE`: every problem at once, and never a value in it."""

import json
from pathlib import Path

import pytest

from adapters.apps import AccountApp, MetaApp, OAuthApp, oauth_app
from gateway.apps_file import read_apps_file
from gateway.domain.errors import BadSettings
from gateway.domain.secret import Secret
from gateway.settings import SettingsError

GOOD = {
    "meta": {"app_id": 1234, "app_secret": "s1", "verify_token": "v1"},
    "bitrix24": {"client_id": "local.1", "client_secret": "s2"},
    "amocrm": {"client_id": "a", "client_secret": "s3"},
    "hubspot": {"client_id": "h", "client_secret": "s4"},
    "telegram": {"api_id": "12345", "api_hash": "s5"},
}  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "apps"
    path.write_text(text)
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read_apps_file(path)
    return raised.value.problems


def test_none_is_none(tmp_path: Path) -> None:
    assert read_apps_file(None) == {}
    assert read_apps_file(write(tmp_path, "# nothing yet\n")) == {}


def test_all_applications_of_the_installation(tmp_path: Path) -> None:
    found = read_apps_file(write(tmp_path, json.dumps(GOOD)))
    meta, telegram = found["meta"], found["telegram"]
    assert isinstance(meta, MetaApp)
    assert isinstance(telegram, AccountApp)
    assert (meta.app_id, meta.app_secret.reveal(), telegram.api_id) == ("1234", "s1", 12345)
    assert sorted(found) == sorted(GOOD)
    for secret in ("s1", "v1", "s2", "s5"):
        assert secret not in repr(found).replace("***", "")


def test_every_problem_at_once_without_values(tmp_path: Path) -> None:
    text = """
      meta: {app_id: "1", app_secret: ""}
      nobody: {client_secret: hush-hush}
      hubspot: {client_id: h, client_secret: hush-hush, more: hush-hush}
      telegram: {api_id: hush-hush, api_hash: [hush-hush]}
      amocrm: hush-hush
    """
    found = problems(write(tmp_path, text))
    assert [one.split(": ")[1] for one in found] == [
        "meta.app_secret", "meta.verify_token", "nobody", "hubspot.more", "telegram.api_id", "telegram.api_hash", "amocrm",
    ]  # fmt: skip
    assert all(one.startswith("GATEWAY_APPS_FILE: ") for one in found)
    assert "hush" not in " ".join(found)


@pytest.mark.parametrize("text", ["[1, 2]", "{meta: {secret: hush-hush", "just hush-hush"])
def test_what_is_no_such_file(tmp_path: Path, text: str) -> None:
    (found,) = problems(write(tmp_path, text))
    assert "hush" not in found
    assert problems(tmp_path / "absent") == ["GATEWAY_APPS_FILE: cannot be read: No such file or directory"]


def test_an_integration_s_own_application_goes_first() -> None:
    ours = OAuthApp(client_id="ours", client_secret="x")
    assert oauth_app(ours, "own", Secret("y")).client_id == "own"
    assert oauth_app(ours, "", None).client_id == oauth_app(ours, "own", None).client_id == "ours"
    with pytest.raises(BadSettings):
        oauth_app(None, "own", None)
