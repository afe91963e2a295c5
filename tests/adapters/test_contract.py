"""What every adapter of the registry keeps to, whatever its kind. A new adapter adds an example and nothing else."""

import inspect
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from adapters.base import Adapter, AdapterSettings, Draft, Link, secret_fields
from adapters.folder import read_folder
from adapters.registry import OURS
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)
from gateway.domain.health import State
from gateway.domain.ids import CallId
from gateway.domain.secret import Secret
from gateway.tenant_file import read_tenant_files
from tests.adapters.conftest import at

CANARY = "canary0123456789canary0123456789"
"""Stands for every secret that an example leaves out."""


PREFIXES = {
    "health", "tested", "finding", "figure", "delivery_kind", "order_reason", "ignored", "module_problem", "remedy",
    "user_status", "job", "reason", "message_error",
}  # fmt: skip
"""Where the admin UI looks for an adapter's codes."""


def example(adapter: Adapter) -> Mapping[str, Any]:
    """The settings of the adapter's `example.yaml`, secrets and all."""
    block = yaml.safe_load(read_folder(adapter.package).example)
    fields = {**(block[0] if adapter.is_pbx else block[adapter.kind])}
    assert fields.pop("enabled", True) is True
    assert not adapter.is_pbx or fields.pop("name")
    fields.pop("user_extensions", None)  # the map has a table of its own, beside the settings
    return {name: secret_of(name) for name in secret_fields(adapter.settings)} | fields


@cache
def secret_of(name: str) -> str:
    """A secret that the example leaves out. A private key has to be one."""
    if name != "private_key":
        return CANARY
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def canaries(adapter: Adapter) -> list[str]:
    """The secrets of the example."""
    return [example(adapter)[name] for name in secret_fields(adapter.settings)]


@pytest.fixture(params=OURS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each adapter of the registry in turn."""
    found: Adapter = import_module(f"adapters.{request.param}").ADAPTER
    return found


@pytest.fixture
def settings(adapter: Adapter) -> AdapterSettings:
    """A valid example of its settings, full of canaries."""
    return adapter.settings.model_validate(example(adapter))


class Watched:
    """A dialer that nothing may use before a client is used."""

    def __init__(self) -> None:
        self.requested: list[str] = []

    async def resolve(self, host: str, port: int) -> str:
        self.requested.append(host)
        return host

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        self.requested.append(host)
        return [host]


def models(settings: type[AdapterSettings]) -> Iterator[type[AdapterSettings]]:
    """A settings class and the classes of its fields."""
    yield settings
    for info in settings.model_fields.values():
        if inspect.isclass(info.annotation) and issubclass(info.annotation, AdapterSettings):
            yield from models(info.annotation)


def stories() -> Iterator[list[CallEvent]]:
    """Calls of every direction and end, as the pipeline carries them."""
    for direction in Direction:
        for result in Result:
            call = CallId(f"{direction}.{result}")
            caller, called = ("+375291112233", "+375171234567") if direction is Direction.INCOMING else ("150", "151")
            same: dict[str, Any] = {
                "call_id": call, "direction": direction, "caller": caller, "called": called, "trunk": "trunk-0001",
            }  # fmt: skip
            talked = result is Result.ANSWERED
            yield [
                CallRinging(at=at(), extensions=("150",), **same),
                CallRinging(at=at(2), extensions=("150", "151"), **same),
                *([CallAnswered(call_id=call, at=at(5), extension="150", wait_s=5.0)] if talked else []),
                *([CallTransferred(call_id=call, at=at(9), from_extension="150", to_extension="151")] if talked else []),
                CallEnded(
                    at=at(60), extension="150" if talked else None, last_extension="151" if talked else None,
                    rang=("150", "151"), result=result, wait_s=5.0 if talked else None,
                    talk_s=55.0 if talked else None, hung_up_by=HungUpBy.CALLER, uncertain=result is Result.FAILED,
                    recording="https://gw.example/recordings/file/1", **same,
                ),
            ]  # fmt: skip
    hidden = CallRinging(
        call_id=CallId("m"), at=at(), direction=Direction.INCOMING, caller="anonymous", called="s", trunk=None,
        extensions=(),
    )  # fmt: skip
    yield [hidden, CallMerged(call_id=CallId("m"), at=at(3), into=CallId("n"))]


def drafts(adapter: Adapter, settings: AdapterSettings, tenant: Tenant) -> list[Draft]:
    assert adapter.plan_call is not None
    made: list[Draft] = []
    for story in stories():
        call: Call | None = None
        for event in story:
            before, call = call, apply(call, event)
            assert call is not None
            made += adapter.plan_call(settings, tenant, before, call, event)
    return made


def test_it_names_itself(adapter: Adapter) -> None:
    assert re.fullmatch("[a-z][a-z0-9_]*", adapter.kind)
    assert adapter.title
    assert adapter.docs_url.startswith("https://")
    assert "" in adapter.limits.rates
    assert all(hook.path.startswith("/") and hook.methods and hook.summary for hook in adapter.hooks)


def test_its_folder_says_what_people_see(adapter: Adapter) -> None:
    assert adapter.package == f"adapters.{adapter.kind}"
    folder = read_folder(adapter.package)
    for language, texts in folder.texts.items():
        assert {key.partition(".")[0] for key in texts} <= PREFIXES | {"about"}
        about = folder.about(language)
        assert about.endswith(".")
        assert "\n" not in about
        assert (language == "ru") == bool(re.search("[А-Яа-яЁё]", about))
    assert b"currentColor" in folder.icon


def test_its_example_is_a_block_of_the_tenant_file(adapter: Adapter, tmp_path: Path) -> None:
    block = yaml.safe_load(read_folder(adapter.package).example)
    links = {"pbxes": block} if adapter.is_pbx else {"integrations": block}
    file = tmp_path / "tenants.yaml"
    file.write_text(
        yaml.safe_dump({"tenants": [{"number": "0367", "name": "June", "country": "BY", **links}]}, allow_unicode=True)
    )
    tenants, problems = read_tenant_files([str(file)])
    assert problems == []
    assert len(tenants[0].pbxes) + len(tenants[0].integrations) == 1


def test_every_setting_is_labelled_in_both_languages(adapter: Adapter) -> None:
    for model in models(adapter.settings):
        for name, info in model.model_fields.items():
            extra = info.json_schema_extra
            assert isinstance(extra, dict), f"{name} is not made with `setting`"
            for part in ("label", "help"):
                texts = extra[part]
                assert isinstance(texts, dict)
                assert set(texts) == {"en", "ru"}
                assert bool(texts["en"]) == bool(texts["ru"]) == (part == "label" or bool(texts["en"])), name
            assert re.search("[А-Яа-яЁё]", str(extra["label"])), f"{name} has no Russian label"


def test_secrets_are_declared_and_sealed(adapter: Adapter, settings: AdapterSettings) -> None:
    declared = secret_fields(adapter.settings)
    typed = {name for name, info in adapter.settings.model_fields.items() if "Secret" in str(info.annotation)}
    assert typed == declared
    assert declared, "nothing is secret: then what lets us in?"
    assert all(isinstance(getattr(settings, name), Secret) for name in declared)
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        json.dumps(settings.model_dump(mode="json")),
    ):
        assert not [one for one in canaries(adapter) if one in text]
    for model in models(adapter.settings):
        assert model is adapter.settings or not secret_fields(model), "a secret in a nested class is not sealed"


def test_settings_are_frozen_and_know_their_fields(adapter: Adapter, settings: AdapterSettings) -> None:
    name = next(iter(adapter.settings.model_fields))
    with pytest.raises(ValidationError):
        setattr(settings, name, None)
    with pytest.raises(ValidationError):
        adapter.settings.model_validate({**example(adapter), "no_such_field": 1})


def test_an_error_in_the_settings_shows_no_secret(adapter: Adapter) -> None:
    for name in secret_fields(adapter.settings):
        with pytest.raises(ValidationError) as raised:
            adapter.settings.model_validate({**example(adapter), name: f"\n{CANARY}\0 "})
        texts = [str(raised.value), repr(raised.value), *traceback.format_exception(raised.value)]
        assert not [text for text in texts if CANARY in text]
        assert CANARY not in str(raised.value.errors(include_input=False, include_context=False))


def test_times_are_told_in_seconds(adapter: Adapter) -> None:
    for name in adapter.settings.model_fields:
        if "timeout" in name:
            assert name.endswith("_s"), f"{name} has no unit"


def test_a_plan_is_the_same_whenever_it_is_made(adapter: Adapter, settings: AdapterSettings, tenant: Tenant) -> None:
    if adapter.plan_call is None:
        assert adapter.is_pbx or adapter.chat is not None, "what is neither told of calls, nor a PBX, nor a messenger?"
        return
    made = drafts(adapter, settings, tenant)
    assert made
    again = drafts(adapter, adapter.settings.model_validate(example(adapter)), replace(tenant, version=9))
    assert made == again
    assert len({draft.key for draft in made}) == len(made), "two drafts with one key: the second would be dropped"
    assert inspect.iscoroutinefunction(adapter.plan_call) is False


def test_a_draft_keeps_its_word(adapter: Adapter, settings: AdapterSettings, tenant: Tenant) -> None:
    if adapter.plan_call is None:
        return
    for draft in drafts(adapter, settings, tenant):
        body = json.dumps(draft.body, ensure_ascii=False)
        assert json.loads(body) == draft.body, "a body is plain JSON"
        assert not [one for one in canaries(adapter) if one in body + draft.key + draft.lane + draft.bucket]
        assert "\0" not in body
        assert draft.bucket.partition(":")[0] in adapter.limits.rates
        assert draft.kind
        assert draft.key.startswith(draft.lane.partition(":")[0]), "a key begins with the call it is about"


async def test_connecting_opens_nothing_and_shows_nothing(
    adapter: Adapter, settings: AdapterSettings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(*args: Any, **more: Any) -> Any:
        raise AssertionError("a connection before first use")

    reports: list[tuple[State, str, str]] = []
    dialer = Watched()
    link = Link(tenant, "main", None, dialer, lambda *said: reports.append(said))
    for name in ("open_tcp_stream", "open_ssl_over_tcp_stream"):
        monkeypatch.setattr(trio, name, forbidden)
    async with adapter.connect(link, settings) as client:
        await trio.testing.wait_all_tasks_blocked()
        assert not [one for one in canaries(adapter) if one in repr(client) + str(client)]
    assert dialer.requested == []


def test_the_modules_of_an_adapter_are_where_they_belong(adapter: Adapter) -> None:
    package = import_module(f"adapters.{adapter.kind}")
    assert package.__doc__
    assert import_module(f"adapters.{adapter.kind}.settings").__doc__
    core = adapter.client.__module__.rpartition(".")[0]  # its own folder, or that of a system with several names
    for name in ("protocol" if adapter.is_pbx else "codec", "session" if adapter.is_pbx else "client"):
        assert import_module(f"{core}.{name}").__doc__
