"""What an adapter's folder holds for people: `texts.toml`, `icon.svg` and `example.yaml`. Read and checked at load.

`texts.toml` has the tables `en` and `ru` with equal keys: `about`, one sentence on the outside system, and the texts of the
adapter's codes under the prefixes of the admin UI (`health.CODE`, `tested.CODE`, `finding.CODE`, `figure.NAME`,
`delivery_kind.KIND`, `message_error.CODE` …). They are looked up with the adapter's kind, so two adapters never collide. `reason.CODE` are sentences as
its errors hold them, found by the English one wherever a person reads an error. `icon.svg` is a plain
drawing: only the elements and attributes listed here, so that it can neither run nor load anything. `example.yaml` is the
block of the tenant file. It draws no page; read `gateway/web/site.py` for where these are shown.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

import yaml

from gateway.domain.texts import LANGUAGES, Texts, flat, unequal

LARGEST_ICON = 8 * 1024
_ELEMENTS = frozenset({"svg", "g", "path", "circle", "ellipse", "rect", "line", "polyline", "polygon", "title"})
_ATTRIBUTES = frozenset(
    {"xmlns", "viewBox", "d", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height", "points",
     "transform", "opacity", "fill", "fill-rule", "fill-opacity", "clip-rule", "stroke", "stroke-width",
     "stroke-linecap", "stroke-linejoin", "stroke-dasharray", "stroke-opacity"}
)  # fmt: skip
_SVG = "http://www.w3.org/2000/svg"


class BadFolder(ValueError):
    """A file of an adapter's folder is missing or not as it must be. A mistake of the adapter, raised when it is loaded."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one adapter. Without a package it has none."""

    texts: Mapping[str, Texts] = field(default_factory=lambda: dict.fromkeys(LANGUAGES, MappingProxyType({})))
    """By language, then by key."""
    icon: bytes = b""
    example: str = ""
    """YAML: an item of `pbxes` or of `integrations`, as it stands in the tenant file."""

    def about(self, language: str) -> str:
        """One sentence on the outside system."""
        found = self.texts[language].get("about", "")
        return found if isinstance(found, str) else ""


@cache
def read_folder(package: str) -> Folder:
    """The files of an adapter's package. Raises BadFolder."""
    if not package:
        return Folder()
    found = files(package)
    read: dict[str, bytes] = {}
    for name in ("texts.toml", "icon.svg", "example.yaml"):
        try:
            read[name] = found.joinpath(name).read_bytes()
        except OSError as error:
            raise BadFolder(f"{package}/{name} cannot be read: {error}") from error
    try:
        example = read["example.yaml"].decode()
        yaml.safe_load(example)
        return Folder(parse_texts(read["texts.toml"].decode()), checked_icon(read["icon.svg"]), example)
    except (ValueError, yaml.YAMLError) as error:
        raise BadFolder(f"{package}: {error}") from error


def parse_texts(text: str) -> Mapping[str, Texts]:
    """`texts.toml` by language. Raises ValueError."""
    tree = tomllib.loads(text)
    if tree.keys() != set(LANGUAGES):
        raise ValueError(f"texts.toml must have the tables {' and '.join(LANGUAGES)}")
    try:
        texts = {language: MappingProxyType(dict(flat(tree[language]))) for language in LANGUAGES}
    except AttributeError:
        raise ValueError("texts.toml may hold texts alone") from None
    if problems := unequal(texts):
        raise ValueError(f"texts.toml: {'; '.join(problems)}")
    if not isinstance(texts[LANGUAGES[0]].get("about"), str):
        raise ValueError("texts.toml has no text `about`")
    return MappingProxyType(texts)


def checked_icon(svg: bytes) -> bytes:
    """An icon as it came, if it is a plain drawing. Raises ValueError."""
    if len(svg) > LARGEST_ICON:
        raise ValueError(f"icon.svg is larger than {LARGEST_ICON} bytes")
    root: list[Mapping[str, str]] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if name not in _ELEMENTS:
            raise ValueError(f"icon.svg: <{name[:40]}> is not allowed")
        root.append(attributes)
        for attribute, value in attributes.items():
            if attribute not in _ATTRIBUTES or ("(" in value and attribute != "transform"):
                raise ValueError(f"icon.svg: {attribute[:40]} of <{name}> is not allowed")

    def refused(*_: Any) -> None:
        raise ValueError("icon.svg: only elements are allowed, no declarations, instructions or entities")

    parser = ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = refused
    try:
        parser.Parse(svg, True)
    except ExpatError as error:
        raise ValueError(f"icon.svg is not XML: {error}") from None
    if root[0].get("xmlns") != _SVG or root[0].get("viewBox") != "0 0 24 24":
        raise ValueError('icon.svg must begin with an <svg> of that namespace and viewBox="0 0 24 24"')
    return svg
