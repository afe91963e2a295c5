"""Prompts: what makes one valid, where its mistakes are, and what filling it in leaves."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.domain.prompts import (
    LONGEST,
    MENU_KEYS,
    PROFILE_KEYS,
    WITH_CATALOG,
    Variable,
    fill,
    flaws,
    headings,
    joined,
    pieces,
    placeholders,
)

GOOD = "# Role\nYou are the operator of {{business_name}}.\n# Rules\nBe kind.\n# Catalog\n{{catalog}}\n"


def found(content: str, business_type: str = "other", custom: tuple[str, ...] = ()) -> list[tuple[str, int, int]]:
    return [
        (str(one.message), one.line, one.column) for one in flaws(content, business_type=business_type, custom=custom)
    ]


def test_a_good_prompt_has_no_mistake() -> None:
    assert found(GOOD, "restaurant") == []
    assert found("# Роль оператора\nтекст\n## Правила\n- раз\n### Меню на сегодня\nсуп", "restaurant") == []
    assert found("Role\n====\nx\n\nRules\n---\ny") == []


def test_an_empty_prompt_is_one_mistake() -> None:
    for content in ("", "  \n\t\n"):
        assert found(content, "restaurant") == [("the prompt is empty", 1, 1)]


def test_a_mistake_is_where_its_braces_are() -> None:
    content = "# Role\nПривет 🙂 {{phne}} and {{phone}}\n# Rules\nопять {{nobody}}, {{not closed\n{{}}"
    assert found(content) == [
        ("there is no placeholder {{phne}}", 2, 10),
        ("there is no placeholder {{nobody}}", 4, 7),
        ("{{ is not closed: }} is missing on this line", 4, 19),
        ("{{}} names no placeholder", 5, 1),
    ]
    assert found(content, custom=("phne", "nobody"))[0][0].startswith("{{ is not closed")


def test_braces_that_belong_to_nobody() -> None:
    assert found("# Role\n# Rules\n{ } }} {a} {{{phone}}}") == []
    assert found("# Role\n# Rules\n{{{{phone}}}}") == [("{{ is not closed: }} is missing on this line", 3, 1)]
    assert found("# Role\n# Rules\n{{ phone }}") == [("write {{phone}} without spaces", 3, 1)]
    assert found("# Role\n# Rules\n{{phone {{address}}") == [("{{ is not closed: }} is missing on this line", 3, 1)]
    assert found("# Role\n# Rules\n{{Phone}} {{9a}}")[0] == ("there is no placeholder {{Phone}}", 3, 1)


def test_a_catalog_that_is_not_closed_is_one_mistake() -> None:
    content = "# Role\n# Rules\n{{catalog"
    assert found(content, "restaurant") == [("{{ is not closed: }} is missing on this line", 3, 1)]


def test_too_long_is_a_mistake_beside_the_others() -> None:
    head = "# Role\n# Rules\n"
    assert found(head + "я" * (LONGEST - len(head))) == []
    assert [text[:21] for text, *_ in found(head + "я" * LONGEST + "{{")] == [
        "the prompt has 32017 ",
        "{{ is not closed: }} ",
    ]


def test_headings_are_those_of_markdown() -> None:
    text = "# One\n#two\n```\n# code\n````\n# Three **x**\n    # indented\n## **Four** ##\n- item\n---\npara\n---\n"
    assert headings(text) == ["One", "Three **x**", "Four** ##", "para"]


@pytest.mark.parametrize("business_type", ["restaurant", "services"])
def test_sections_that_a_business_needs(business_type: str) -> None:
    missing = [text.partition(" is missing")[0] for text, *_ in found("hello", business_type)]
    catalog = ["the catalog"] if business_type in WITH_CATALOG else []
    assert missing == ['the section "Role"', 'the section "Rules"', *catalog]


words = st.text(st.characters(exclude_characters="{}#`~", exclude_categories=["C", "Zl", "Zp"]), max_size=20).map(
    lambda text: text.replace("=", "").replace("-", "")
)
PARTS = {
    "role": ("# Role\n", "# Роль\n", "## Role of yours\n"),
    "rules": ("# Rules\n", "### Правила\n"),
    "catalog": ("# Catalog\n", "# Услуги\n", "{{catalog}}\n", "{{menu}}\n"),
}
MISTAKES = ("{{nobody_knows}}", "{{open", "{{Bad Key}}", "{{}}")


@settings(max_examples=200, deadline=None)
@given(
    there=st.sets(st.sampled_from(sorted(PARTS))),
    business_type=st.sampled_from(["restaurant", "retail", "beauty", "services", "other"]),
    which=st.randoms(use_true_random=False),
    lines=st.lists(st.tuples(words, st.sampled_from((*MISTAKES, "", "{{phone}}", "{{own}}"))), max_size=8),
)
def test_validation_finds_exactly_the_mistakes_there_are(
    there: set[str], business_type: str, which: object, lines: list[tuple[str, str]]
) -> None:
    """Feature: modular-bot-integrations, Property 5: validation finds exactly the errors there are: each section that is
    required and missing, and each wrong placeholder at its line and column."""
    choose = getattr(which, "choice")  # noqa: B009
    content = "".join(choose(PARTS[part]) for part in ("role", "rules", "catalog") if part in there)
    expected: list[tuple[int, int]] = []
    for line, (text, mark) in enumerate(lines, start=content.count("\n") + 1):
        if mark in MISTAKES:
            expected.append((line, len("p ") + len(text) + 1))
        content += f"p {text}{mark}\n"
    result = flaws(content, business_type=business_type, custom={"own"})
    if not content.strip():
        assert [str(one.message) for one in result] == ["the prompt is empty"]
        return
    required = ["role", "rules", *(["catalog"] if business_type in WITH_CATALOG else [])]
    assert sum(1 for one in result if "is missing: a heading" in one.message) == len(set(required) - there)
    assert [(one.line, one.column) for one in result if "is missing: a heading" not in one.message] == expected


keys = st.sampled_from((*PROFILE_KEYS, *MENU_KEYS)) | st.text(string.ascii_lowercase, min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    template=st.lists(st.tuples(texts.map(lambda text: text.replace("{", "(")), keys), max_size=12),
    tail=texts,
    values=st.dictionaries(keys, texts.map(lambda text: text.replace("}", ")"))),
)
def test_substitution_leaves_no_placeholder(template: list[tuple[str, str]], tail: str, values: dict[str, str]) -> None:
    """Feature: modular-bot-integrations, Property 6: substitution leaves no placeholder {{key}}: every one of a valid prompt
    is replaced, once, and the text around it stays."""
    content = "".join(text + "{{" + key + "}}" for text, key in template) + tail.replace("{", "(")
    whole = {**dict.fromkeys((key for _, key in template), ""), **values}
    assert set(placeholders(content)) == {key for _, key in template}
    done = fill(content, whole)
    assert re.search(r"\{\{[a-z][a-z0-9_]*\}\}", done) is None
    assert done == "".join(text + whole[key] for text, key in template) + tail.replace("{", "(")


def test_what_is_put_in_is_not_looked_into() -> None:
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "{{a}}{{x}}"}) == "{{b}} {{a}}{{x}}"
    assert fill("{{{{a}}}}", {"a": "x"}) == "{{x}}"
    assert fill("{{nobody}} {{a}}", {"a": "x"}) == "{{nobody}} x"


def test_some_values_are_left_for_the_reading() -> None:
    parts = pieces("It is {{now}} in {{address}}, {{now}}.", {"now": None, "address": "{{now}}"})
    assert joined(parts, lambda key: f"<{key}>") == "It is <now> in {{now}}, <now>."


def test_a_variable_has_the_source_of_its_key() -> None:
    assert Variable(key="delivery_fee", default_value="5 BYN").source == "custom"
    assert Variable(key="phone", source="business_profile").key == "phone"
    for wrong in ({"key": "phone"}, {"key": "fee", "source": "menu"}, {"key": "Fee"}, {"key": "a" * 65}):
        with pytest.raises(ValidationError):
            Variable.model_validate(wrong)
