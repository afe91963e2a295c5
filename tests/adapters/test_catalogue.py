"""The registry of outside systems: made from the adapters, in the language of whoever asks."""

import re
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import create_model

from adapters.base import AdapterSettings, setting
from adapters.catalogue import TYPES, config_schema, entries
from adapters.fields import FieldShape, shapes_of
from adapters.registry import adapters
from gateway.domain.secret import Secret
from gateway.domain.texts import LANGUAGES
from gateway.web.pages.setup import Field, SetupForm
from gateway.web.site import _assets, _environment, _icons
from gateway.web.translations import words

CONTRACT = {"key", "label", "type", "required", "placeholder", "options", "help_text", "advanced", "default", "fields"}

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith("model_") and name not in dir(AdapterSettings)
)


@st.composite
def settings_classes(draw: st.DrawFn) -> type[AdapterSettings]:
    """A settings class as an adapter might have it."""
    fields: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        sort = draw(st.sampled_from(["line", "url", "secret", "switch", "number", "select", "lines", "pairs", "group"]))
        required = draw(st.booleans())
        more: dict[str, Any] = {
            "en": draw(TEXTS), "ru": draw(TEXTS), "help_en": draw(st.just("") | TEXTS), "help_ru": draw(st.just("") | TEXTS),
            "advanced": draw(st.booleans()), "placeholder": draw(st.just("") | TEXTS),
        }  # fmt: skip
        kinds: dict[str, tuple[Any, Any]] = {
            "line": (str, ""), "url": (str, ""), "secret": (Secret | None, None), "switch": (bool, False), "number": (int, 7),
            "select": (Literal["one", "two"], "one"), "lines": (tuple[str, ...], ()), "pairs": (dict[str, str], {}),
            "group": (create_model("Inner", __base__=AdapterSettings, deep=(bool, setting(True, en="Deep", ru="Внутри"))), None),
        }  # fmt: skip
        kind, default = kinds[sort]
        more |= {"secret": True} if sort == "secret" else {"widget": "url"} if sort == "url" else {}
        if required:
            fields[name] = (kind, setting(**more))
        elif sort == "group":
            fields[name] = (kind, setting(default_factory=kind, **more))
        else:
            fields[name] = (kind, setting(default, **more))
    made: type[AdapterSettings] = create_model("Made", __base__=AdapterSettings, **fields)
    return made


def same(shapes: Any, schema: list[dict[str, Any]], language: str) -> None:
    """The schema lists these fields, each as it is."""
    assert [one["key"] for one in schema] == [shape.name for shape in shapes]
    for shape, one in zip(shapes, schema, strict=True):
        assert one.keys() <= CONTRACT
        assert one["label"] == shape.label[language]
        assert one["type"] == TYPES[shape.widget]
        assert one["required"] is shape.required
        assert one.get("help_text", "") == shape.help.get(language, "")
        assert [value for value, _ in shape.options] == [option["value"] for option in one.get("options", ())]
        same(shape.children, one.get("fields", []), language)


def drawn(fields: Any, language: str) -> str:
    """The form as a page draws it."""
    env = _environment(_assets(), _icons(), "Gateway", dict)
    template = env.from_string('{% from "form_fields.html" import all %}{{ all(t, form) }}')
    return template.render(t=words(language), form=SetupForm(fields))


def inputs(shapes: Any, at: str = "") -> list[tuple[str, FieldShape]]:
    found: list[tuple[str, FieldShape]] = []
    for shape in shapes:
        found += inputs(shape.children, f"{at}{shape.name}.") if shape.children else [(at + shape.name, shape)]
    return found


def check_form(model: type[AdapterSettings], language: str) -> None:
    form: list[Field] = list(SetupForm.of(model, {}).fields)
    assert [one.shape for one in form] == list(shapes_of(model)), "form and schema have one source"
    page = drawn(form, language)
    for name, shape in inputs(shapes_of(model)):
        (tag,) = re.findall(rf'<(?:input|select|textarea) id="f-{re.escape(name)}"[^>]*>', page)
        assert ('type="password"' in tag) is (shape.widget == "secret")


@settings(max_examples=100, deadline=None)
@given(model=settings_classes(), language=st.sampled_from(LANGUAGES))
def test_a_schema_has_what_a_settings_class_has(model: type[AdapterSettings], language: str) -> None:
    """Feature: modular-bot-integrations, Property 1: the schema of any settings class holds all of its fields, and the form
    shows each of them."""
    same(shapes_of(model), config_schema(shapes_of(model), language), language)
    check_form(model, language)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, len(adapters()) - 1), language=st.sampled_from(LANGUAGES))
def test_every_entry_has_all_that_its_adapter_needs(place: int, language: str) -> None:
    """Feature: modular-bot-integrations, Property 1: every entry of the registry has a schema with all that its adapter needs,
    and the form shows it."""
    adapter, entry = list(adapters().values())[place], entries(language)[place]
    assert entry["provider"] == adapter.kind
    assert entry["type"] in ("crm", "channel", "pbx")
    assert entry["is_available"] is True
    assert entry["description"]
    assert entry["icon_url"] == f"/icons/{adapter.kind}.svg"
    needed = {info.alias or name for name, info in adapter.settings.model_fields.items() if info.is_required()}
    assert {one["key"] for one in entry["config_schema"] if one["required"]} == needed
    same(shapes_of(adapter.settings), entry["config_schema"], language)
    check_form(adapter.settings, language)


def test_a_secret_has_no_default_and_is_a_password() -> None:
    for entry in entries("en"):
        secrets = [one for one in entry["config_schema"] if one["type"] == "password"]
        assert secrets, entry["provider"]
        assert not any("default" in one for one in secrets)
