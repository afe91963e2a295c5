"""Prompts: text with placeholders such as `{{phone}}`, what makes one valid, and filling it in. Pure.

    {{key}}     a placeholder, key [a-z][a-z0-9_]*; of the profile, the catalog, or a variable of the prompt's own
    # Role      a section is a Markdown heading; which ones are required depends on the business type

Substitution goes through the text once and never looks into what it puts in. Places of errors are counted from 1, lines and
characters. Read `gateway/domain/prompt_values.py` for the values.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.domain.profile import OneLine, clean_lines
from gateway.domain.text import Bilingual, has_breaking, refused, sentence, texts_of

LONGEST = 32_000
"""Characters of a prompt that can be made active."""
LONGEST_DRAFT = 100_000
LONGEST_NAME, LONGEST_NOTE = 100, 500
MOST_VARIABLES = 100
PROFILE_KEYS = (
    "business_name", "business_type", "description", "phone", "address", "website", "working_hours", "today", "now",
    "language", "timezone", "currency",
)  # fmt: skip
MENU_KEYS = ("catalog", "menu")
"""Both are the catalog."""
AT_READING = ("today", "now")
"""Those that are filled in whenever the prompt is read."""
WITH_CATALOG = frozenset(("restaurant", "retail", "beauty", "travel", "education", "healthcare"))
DEFAULT_NAME = "Основной промт"

_KEY = r"[a-z][a-z0-9_]*"
_OPENING = re.compile(r"\{{2,}")
_CLOSING = re.compile(r"\}\}|\{\{|\n")
_WHOLE_KEY = re.compile(_KEY, re.ASCII)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_PLAIN_LINE = re.compile(r" {0,3}(?![ \t]|[-+*>#]\s|[0-9]{1,9}[.)]\s)\S")
_SECTIONS = (
    (("role", "роль"), Bilingual('the section "Role" is missing: a heading such as "# Role"',
                                 "нет раздела «Роль»: нужен заголовок, например «# Роль»")),
    (("rules", "правила"), Bilingual('the section "Rules" is missing: a heading such as "# Rules"',
                                     "нет раздела «Правила»: нужен заголовок, например «# Правила»")),
)  # fmt: skip
_CATALOG_HEADINGS = ("catalog", "каталог", "меню", "услуги")
_NO_CATALOG = Bilingual(
    'the catalog is missing: a heading such as "# Catalog", or {{catalog}}',
    "нет каталога: нужен заголовок, например «# Каталог», или {{catalog}}",
)
_EMPTY = Bilingual("the prompt is empty", "промт пуст")

Source = Literal["business_profile", "menu", "custom"]


def _key(text: str) -> str:
    if not _WHOLE_KEY.fullmatch(text) or len(text) > 64:
        raise refused(
            "must begin with a to z and have a to z, 0 to 9 and _ alone",
            "должен начинаться с a–z и состоять из a–z, 0–9 и _",
        )
    return text


class Variable(BaseModel):
    """A placeholder that a prompt explains: one of its own with its value (`custom`), or one of the profile or the catalog
    with what stands there while the profile has nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, AfterValidator(_key)]
    label: Annotated[OneLine, StringConstraints(max_length=200)] = ""
    default_value: Annotated[
        str, BeforeValidator(lambda value: "" if value is None else value), StringConstraints(max_length=4000),
        AfterValidator(clean_lines),
    ] = ""  # fmt: skip
    source: Source = "custom"

    @model_validator(mode="after")
    def _known(self) -> "Variable":
        builtin = "business_profile" if self.key in PROFILE_KEYS else "menu" if self.key in MENU_KEYS else "custom"
        if self.source != builtin:
            raise refused(
                f"{{{{{self.key}}}}} has the source {builtin}" if builtin != "custom"
                else f"the source {self.source} has no {{{{{self.key}}}}}",
                f"у {{{{{self.key}}}}} источник {builtin}" if builtin != "custom"
                else f"в источнике {self.source} нет {{{{{self.key}}}}}",
            )  # fmt: skip
        return self

    def plain(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Flaw:
    """One mistake. `line` and `column` from 1, in characters; 1, 1 where it has no place."""

    message: Bilingual
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class _Token:
    """A `{{` that is one: at `start`, up to `end`. `key` is None where nothing closes it."""

    start: int
    end: int
    key: str | None


def _tokens(content: str) -> Iterator[_Token]:
    """Every `{{`. Of more than two braces in a row the last two belong to the placeholder; two or more before them are
    an opening that nothing closes."""
    at = 0
    while (found := _OPENING.search(content, at)) is not None:
        if found.end() - found.start() > 3:
            yield _Token(found.start(), found.end() - 2, None)
        start = found.end() - 2
        closing = _CLOSING.search(content, found.end())
        if closing is not None and closing[0] == "}}":
            at = closing.end()
            yield _Token(start, at, content[found.end() : closing.start()])
        else:
            at = found.end()
            yield _Token(start, at, None)


def placeholders(content: str) -> tuple[str, ...]:
    """The keys that stand in a text, each once, in order; those that nobody knows among them."""
    return tuple(dict.fromkeys(token.key for token in _tokens(content) if token.key and _is_key(token.key)))


def _is_key(text: str) -> bool:
    return _WHOLE_KEY.fullmatch(text) is not None


def headings(content: str) -> list[str]:
    """The Markdown headings outside of fenced code, without marks of emphasis before them."""
    found: list[str] = []
    fence, before = "", ""
    for line in content.splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark is not None and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            continue
        if mark is not None:
            fence, before = mark[1], ""
            continue
        if (heading := _HEADING.match(line)) is not None:
            found.append(heading[1] or "")
            before = ""
        elif _UNDERLINE.match(line) is not None and before:
            found.append(before)
            before = ""
        else:
            before = line.strip() if _PLAIN_LINE.match(line) is not None else ""
    return [text.lstrip("*_` ") for text in found]


def flaws(content: str, *, business_type: str, custom: Collection[str] = ()) -> tuple[Flaw, ...]:
    """Every mistake, each once, those without a place first. `custom` are the keys of the prompt's own variables."""
    if not content.strip():
        return (Flaw(_EMPTY),)
    found: list[Flaw] = []
    if len(content) > LONGEST:
        found.append(
            Flaw(
                Bilingual(
                    f"the prompt has {len(content)} characters; at most {LONGEST} are allowed",
                    f"в промте {len(content)} символов, можно не больше {LONGEST}",
                )
            )
        )
    heads = [heading.casefold() for heading in headings(content)]
    found += [Flaw(missing) for names, missing in _SECTIONS if not any(head.startswith(names) for head in heads)]
    tokens = list(_tokens(content))
    has_catalog = any(head.startswith(_CATALOG_HEADINGS) for head in heads)
    # A {{catalog}} that is not closed is one mistake, not two.
    if business_type in WITH_CATALOG and not has_catalog and not any(_names_catalog(content, one) for one in tokens):
        found.append(Flaw(_NO_CATALOG))
    known = {*PROFILE_KEYS, *MENU_KEYS, *custom}
    for token in tokens:
        if (message := _wrong_with(token, known)) is not None:
            found.append(Flaw(message, *_place(content, token.start)))
    return tuple(found)


def _names_catalog(content: str, token: _Token) -> bool:
    key = token.key
    if key is None:
        opened = _WHOLE_KEY.match(content, token.end)
        key = opened[0] if opened is not None else ""
    return key in MENU_KEYS


def _wrong_with(token: _Token, known: Collection[str]) -> Bilingual | None:
    if token.key is None:
        return Bilingual("{{ is not closed: }} is missing on this line", "{{ не закрыто: на этой строке нет }}")
    if token.key in known:
        return None
    shown = token.key.strip()
    if not shown:
        return Bilingual("{{}} names no placeholder", "в {{}} нет имени")
    if _is_key(shown) and shown in known:
        return Bilingual(f"write {{{{{shown}}}}} without spaces", f"напишите {{{{{shown}}}}} без пробелов")
    short = shown if len(shown) <= 40 else f"{shown[:40]}…"
    return Bilingual(f"there is no placeholder {{{{{short}}}}}", f"нет подстановки {{{{{short}}}}}")


def _place(content: str, at: int) -> tuple[int, int]:
    return content.count("\n", 0, at) + 1, at - content.rfind("\n", 0, at)


def pieces(content: str, values: Mapping[str, str | None]) -> list[tuple[str, bool]]:
    """The text with every placeholder of `values` filled in, as pieces: a text, and whether it is a key whose value is None
    and which is filled in later. Placeholders that are not in `values` stay as they are."""
    made: list[tuple[str, bool]] = []
    at = 0
    for token in _tokens(content):
        if token.key is None or token.key not in values:
            continue
        made.append((content[at : token.start], False))
        value = values[token.key]
        made.append((token.key, True) if value is None else (value, False))
        at = token.end
    made.append((content[at:], False))
    return made


def fill(content: str, values: Mapping[str, str]) -> str:
    """The text with every placeholder of `values` filled in once; what is put in is not looked into."""
    return "".join(text for text, _ in pieces(content, values))


def joined(parts: Iterable[tuple[str, bool]], at_reading: Callable[[str], str]) -> str:
    """The pieces as one text; `at_reading` gives the values of the keys that were left open."""
    return "".join(at_reading(text) if later else text for text, later in parts)


def validation(content: str, variables: Sequence[Variable], business_type: str) -> tuple[Flaw, ...]:
    """Every mistake of a prompt for this business type."""
    return flaws(content, business_type=business_type, custom=[one.key for one in variables])


def placed(flaw: Flaw) -> Bilingual:
    """A mistake with its place, as one sentence."""
    en, ru = texts_of(flaw.message)["en"], texts_of(flaw.message)["ru"]
    return Bilingual(
        f"line {flaw.line}, column {flaw.column}: {en}", f"строка {flaw.line}, столбец {flaw.column}: {ru}"
    )


def check_content(content: Any) -> list[tuple[str, str]]:
    """What prevents a text from being stored, draft or not."""
    if not isinstance(content, str):
        return [("content", Bilingual("text is expected", "ожидается текст"))]
    if len(content) > LONGEST_DRAFT:
        return [
            ("content", Bilingual(f"at most {LONGEST_DRAFT} characters", f"не больше {LONGEST_DRAFT} символов"))
        ]  # fmt: skip
    try:
        clean_lines(content)
    except PydanticCustomError as error:
        return [("content", sentence(error))]
    return []


def check_line(name: str, value: Any, longest: int, *, empty: bool) -> list[tuple[str, str]]:
    """What is wrong with a name or a note."""
    if not isinstance(value, str) or len(value) > longest or has_breaking(value) or not (empty or value.strip()):
        return [
            (
                name,
                Bilingual(f"one line of at most {longest} characters", f"одна строка, не длиннее {longest} символов"),
            )
        ]
    return []


def wrong_variables(variables: Sequence[Variable], before: str = "variables") -> list[tuple[str, str]]:
    """What is wrong with them together, by path."""
    problems: list[tuple[str, str]] = []
    for place, one in enumerate(variables):
        if one.key in (other.key for other in variables[:place]):
            problems.append((f"{before}[{place}].key", Bilingual("is named twice", "указан дважды")))
    if len(variables) > MOST_VARIABLES:
        problems.append(
            (before, Bilingual(f"at most {MOST_VARIABLES} variables", f"не больше {MOST_VARIABLES} переменных"))
        )
    return problems
