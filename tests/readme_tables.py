"""The tables of README.md and docs/ that are made from the code: `python -m tests.readme_tables` prints them.

`--write` puts them between their marks, `<!-- table NAME -->` and `<!-- end -->`; the adapters' blocks in the example of a tenant
file come from their `example.yaml`. `tests/test_project.py` compares.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adapters.base import Adapter, AdapterSettings
from adapters.folder import read_folder
from adapters.registry import adapters
from gateway.cli import _parser
from gateway.domain.crm_sources import SOURCES
from gateway.domain.secret import Secret
from gateway.settings import variables

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = re.compile(r"^(    (pbxes|integrations):\n)(?: {6}.*\n)+", re.MULTILINE)
MARKED = re.compile(r"<!-- table ([\w ]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def settings_table() -> str:
    """Every variable of the process."""
    rows = [
        (f"`{name}`", _default(item.metadata["shown"] or str(item.default)), item.metadata["meaning"])
        for name, item in variables().items()
    ]
    return table(("variable", "default", "meaning"), rows)


def _default(text: str) -> str:
    """Values stand as code; what only describes one does not."""
    return text if text in ("empty", "unset") or " " in text else f"`{text}`"


def adapter_table(adapter: Adapter) -> str:
    """Every field of an adapter's settings."""
    return table(("field", "default", "meaning"), list(_fields(adapter.settings)))


def _fields(settings: type[AdapterSettings]) -> Iterator[tuple[str, ...]]:
    for name, info in settings.model_fields.items():
        extra: Mapping[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        reported = [extra["label"]["en"], *([extra["help"]["en"].rstrip(".")] if extra["help"].get("en") else [])]
        if extra.get("options"):
            reported.append(", ".join(f"`{value}`: {labels['en']}" for value, labels in extra["options"].items()))
        meaning = ". ".join(reported) + ("; secret" if extra.get("secret") else "")
        default = "required" if info.is_required() else _value(info.get_default(call_default_factory=True))
        if extra.get("account") and info.default_factory is not None:
            default = "made by itself"
        yield f"`{info.alias or name}`", default, meaning


def _value(value: Any) -> str:
    match value:
        case Secret():
            return "made by itself" if value else "empty"
        case bool():
            return f"`{str(value).lower()}`"
        case BaseModel():
            items = value.model_dump(by_alias=True).items()
            return f"`{{{', '.join(f'{name}: {str(item).lower()}' for name, item in items)}}}`"
        case float():
            return f"`{value:g}`"
        case int():
            return f"`{value}`"
        case _:
            return f"`{value}`" if value else "empty"


def sources_table() -> str:
    """Every source of field mapping, with what a rule has to be for."""
    whens: dict[str, list[str]] = {}
    found = {name: source for sources in SOURCES.values() for name, source in sources.items()}
    for when, sources in SOURCES.items():
        for name in sources:
            whens.setdefault(name, []).append(when)
    rows = []
    for name, source in found.items():
        choices = f": {', '.join(f'`{one}`' for one in source.choices)}" if source.choices else ""
        kind = {"time": "time, ISO 8601 with the company's offset", "flag": "true or false"}.get(
            source.type, source.type
        )
        rows.append((f"`{name}`", ", ".join(whens[name]), f"{source.en}; {kind}{choices}"))
    return table(("source", "when", "value"), rows)


def commands() -> dict[str, str]:
    """Every command in words, such as "user add", with what its help says of it."""

    def below(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, str]]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, inner in action.choices.items():
                    nested = list(below(inner, f"{words}{name} "))
                    yield from nested or [(f"{words}{name}", inner.description or "")]

    return dict(below(_parser(), ""))


def tables() -> dict[str, str]:
    """Every table by its name."""
    return {
        "settings": settings_table(),
        "sources": sources_table(),
        **{str(kind): adapter_table(one) for kind, one in adapters().items()},
    }


def written(text: str) -> str:
    """A page with its tables as they should be."""
    made = tables()
    text = MARKED.sub(lambda mark: f"<!-- table {mark[1]} -->\n{made[mark[1]]}<!-- end -->\n", text)
    return BLOCKS.sub(lambda block: block[1] + examples(pbxes=block[2] == "pbxes"), text)


def examples(*, pbxes: bool) -> str:
    """The blocks of a tenant file below `pbxes` or `integrations`, as the adapters have them."""
    found = [read_folder(one.package).example for one in adapters().values() if one.is_pbx is pbxes]
    return "".join(textwrap.indent(block, " " * 6) for block in found)


def main() -> None:
    """Prints the tables, or writes them."""
    if sys.argv[1:] == ["--write"]:
        for page in PAGES:
            page.write_text(written(page.read_text("utf-8")), "utf-8")
        return
    for name, text in tables().items():
        print(f"<!-- table {name} -->\n{text}<!-- end -->\n")


if __name__ == "__main__":
    main()
