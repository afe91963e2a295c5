"""The files that an adapter's folder has for people: what is taken and what is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import registry
from adapters.base import Adapter, AdapterSettings
from adapters.folder import BadFolder, Folder, checked_icon, parse_texts, read_folder
from gateway.domain.ids import Kind
from gateway.web.translations import words

ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M4 4h16v16z" transform="rotate(9)"/></svg>'
)
TEXTS = '[en]\nabout = "Carries letters."\nhealth.asleep = "Asleep."\n[ru]\nabout = "Носит письма."\nhealth.asleep = "Спит."'


def drawn(inner: str, root: str = "") -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"{root}>{inner}</svg>'.encode()


def test_a_plain_drawing_is_taken_as_it_is() -> None:
    assert checked_icon(ICON) is ICON


@pytest.mark.parametrize(
    "svg",
    [
        drawn("<script>alert(1)</script>"), drawn("<SCRIPT/>"), drawn("<foreignObject/>"), drawn("<style>*{}</style>"),
        drawn('<path onclick="x"/>'), drawn("", ' onload="x"'), drawn('<path style="fill:red"/>'),
        drawn('<a href="https://e.example/"><path d="M0 0"/></a>'), drawn('<image href="https://e.example/a.png"/>'),
        drawn('<use href="#a"/>'), drawn('<path xlink:href="x"/>'), drawn('<path fill="url(https://e.example/#a)"/>'),
        drawn("<animate/>"), drawn("<x:script xmlns:x='http://www.w3.org/2000/svg'/>"),
        b'<?xml-stylesheet href="https://e.example/a.css"?>' + ICON, b'<!DOCTYPE svg [<!ENTITY a "b">]>' + ICON,
        b"", b"<svg", b"\xff\xfe", b'<svg viewBox="0 0 24 24"/>', ICON.replace(b"24 24", b"48 48"),
        drawn("<path/>" * 2000), b'<svg xmlns="http://example/" viewBox="0 0 24 24"/>',
    ],
)  # fmt: skip
def test_what_could_run_or_load_something_is_refused(svg: bytes) -> None:
    with pytest.raises(ValueError, match=r"icon\.svg"):
        checked_icon(svg)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[en]\nabout = "x"', "tables en and ru"), ("[en]\n[ru]", "no text `about`"), ("[en", "Expected"),
        (TEXTS + '\nhealth.awake = "Не спит."', "health.awake: not in every language"),
        (TEXTS.replace('"Спит."', '"Спит {n}."'), "health.asleep: the languages take different values"),
        (TEXTS.replace('"Спит."', "1"), "texts alone"),
    ],
)  # fmt: skip
def test_texts_that_do_not_fit_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_texts(text)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed package with an adapter, announced by an entry point."""
    package = tmp_path / "pigeon_adapter"
    package.mkdir()
    for name, text in (("__init__.py", ""), ("texts.toml", TEXTS), ("icon.svg", ICON.decode()), ("example.yaml", "")):
        package.joinpath(name).write_text(text)
    adapter = Adapter(
        kind=Kind("pigeon"), title="Pigeon", type="channel", package=package.name, settings=AdapterSettings,
        connect=lambda link, settings: NotImplemented,
    )  # fmt: skip

    class Entry:
        def load(self) -> Adapter:
            return adapter

    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    registry.adapters.cache_clear()
    read_folder.cache_clear()
    yield package
    monkeypatch.undo()
    registry.adapters.cache_clear()
    read_folder.cache_clear()


def test_an_installed_package_brings_its_texts(installed: Path) -> None:
    assert words("ru").code("health", "asleep", "pigeon") == "Спит."
    assert words("en").code("health", "pigeon_asleep") == "Asleep."
    assert words("en").about("pigeon") == "Carries letters."
    assert read_folder("pigeon_adapter").icon == ICON


@pytest.mark.parametrize("name", ["texts.toml", "icon.svg", "example.yaml"])
def test_a_package_without_a_file_is_refused_by_name(installed: Path, name: str) -> None:
    (installed / name).unlink()
    with pytest.raises(BadFolder, match=f"pigeon_adapter/{name}"):
        registry.adapters()


@pytest.mark.parametrize(("name", "text"), [("icon.svg", "<svg/>"), ("texts.toml", "[en]"), ("example.yaml", "a: [")])
def test_a_package_with_a_bad_file_is_refused_by_name(installed: Path, name: str, text: str) -> None:
    (installed / name).write_text(text)
    with pytest.raises(BadFolder, match="pigeon_adapter"):
        registry.adapters()


def test_an_adapter_without_a_package_has_nothing_to_show() -> None:
    assert read_folder("") == Folder()
    assert Folder().about("en") == ""
