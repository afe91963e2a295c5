"""Every page wholly in one language: no letter of the other alphabet outside names, and no key or code in the place of a text."""

import re
from html import unescape

import pytest

from adapters.registry import adapters
from gateway.domain.text import Bilingual
from tests.web.every_page import prepare
from tests.web.world import World

NAMES = (
    # People, companies, prompts and goods of these tests; systems and standards by their own names.
    "Анна Кузьмина", "Иван Петров", "Ольга Мороз", "Павел Сидорович", "Бот на сайте", "Основной", "Маргарита", "Фунги", "Чай",
    "Пицца", "проба", "Доставка", "Русский", "Окна", "Двери",
)  # fmt: skip
"""Cyrillic in English pages."""
OUTSIDE = (
    "400 Bad Request: Wrong phone",
    "503 Service Unavailable",
    "403 Forbidden",
    "no answer",
    "ValueError: a bug",  # others' words
    "a test",
    "zzz",
    "main",
    "sales",
    "support",  # typed by people, or examples of that
    "from-internal",
    "write = reporting",
    "asterisk -rx 'manager reload'",
    "gateway apply",
    "https",  # to be typed as they are
)
"""English in Russian pages: the words of outside systems and people, and what is typed."""
LATIN = frozenset(
    [
        *(word for one in adapters().values() if not isinstance(one.title, Bilingual) for word in one.title.split()),
        "Gateway",
        "OpenAI",
        "June",
        "Maple",
        "Birch",
        "AMI",
        "CRM",
        "API",
        "CSV",
        "UTF",
        "PBX",
        "BY",
        "BYN",
        "GB",
        "EN",
        "RU",
        "English",
        "BotFather",
        "JSON",
        "HTTP",
        "HTTPS",
        "TLS",
        "POST",
        "URL",
        "QR",
        "MD",
        "Ltd",
        "Call",
        "Manager",
        "UID",
        "Token",
        "Docs",
        "PostgreSQL",
        "E",
        "DAHDI",
        "trunk",
        "i",
        "B",
        "KiB",
        "MiB",
        "GiB",
        "SMTP",
        "Windows",
        "Chrome",
        "Linux",
        "Firefox",
        "Meta",
        "Cloud",
        "JPEG",
        "PNG",
        "WebP",
        "ISO",
        "YAML",
        "AI",
        "GPT",
        "LLM",
        "ID",
        "SIP",
        "PJSIP",
        "SHA",
        "IP",
        "id",
        "UTC",
        "USD",
        "EUR",
        "RUB",
        "Role",
        "Ctrl",
        "Enter",
        "JavaScript",
    ]
)
"""Latin words in Russian pages."""
TEXT = re.compile(
    r'<td class="detail">.*?</td>|<dd class="values">.*?</dd>|<(script|style|pre|code|textarea|svg)\b.*?</\1>|<[^>]+>',
    re.S,
)
"""Markup, code, the values of an audited change, and what a prompt's placeholders become: in the company's language, as bots get it."""
SAID = re.compile(
    r'\s(?:title|placeholder|aria-label|alt|data-on|data-off|data-copied|data-denied|data-impossible|data-turn-on|data-turn-off)="([^"]*)"'
)
ADDRESS = re.compile(r"\S*(?:[@/_\\{}=#]|\d|[a-z]\.[a-z])\S*")
"""Addresses, codes with digits, file names: no words of a language."""
KEY = re.compile(r"\b[a-z_]+\.[a-z_]+(?:\.[a-z_]+)*\b")


def texts_of(page: str) -> str:
    body = page[page.index("<body") :]
    return unescape(TEXT.sub(" \n ", body) + "\n" + "\n".join(SAID.findall(body)))


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_no_page_mixes_languages(world: World, language: str) -> None:
    cookies, pages = await prepare(world)
    found: dict[str, set[str]] = {}
    for name, shown in pages.items():
        client = world.app.test_client()
        client.set_cookie("localhost", "language", language)
        if shown.whose:
            client.set_cookie("localhost", *cookies[shown.whose])
        answer = await client.get(shown.path)
        assert answer.status_code == shown.status, name
        text = texts_of(str(await answer.get_data(as_text=True)))
        for known in (*NAMES, *OUTSIDE):
            text = text.replace(known, " ")
        text = ADDRESS.sub(" ", text)
        if language == "en":
            foreign = set(re.findall(r"[А-Яа-яЁё]+", text))
        else:
            foreign = set(re.findall(r"[A-Za-z][A-Za-z'-]*", text)) - LATIN
        if foreign:
            found[name] = foreign
    assert found == {}, "\n".join(f"{name}: {sorted(words)}" for name, words in found.items())
