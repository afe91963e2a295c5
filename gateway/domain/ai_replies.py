"""What a model wrote, before a client sees it: links and numbers that nobody gave it are cut, lines of the prompt are noticed. Pure.

    text --> suspects (links, e-mail addresses, phone and card numbers) --> those that are not allowed are cut

What is allowed: the company's domains with their subdomains, what stands in its profile, in its catalog, and what the client wrote.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from phonenumbers import Leniency, PhoneNumberMatcher

LONGEST = 4000
"""Characters of one answer; what is longer is cut at the end of a sentence."""
LEAST_LINE, LEAST_WORDS = 24, 4
"""A line of a prompt that is shorter may be said by chance."""

_ZONES = (
    "[a-z]{2}|com|net|org|info|biz|shop|store|online|site|website|app|dev|pro|club|top|xyz|link|click|live|space|tech|agency|"
    "example|test|рф|бел|рус|укр|қаз|xn--[a-z0-9-]+"
)
_LINK = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]{1,20}:(?://|\\\\|(?=[\w+]))[^\s<>\"']+)"
    r"|(?P<email>[\w.+-]+@(?:[\w-]+\.)+[\w-]{2,})"
    rf"|(?P<bare>(?<![\w@.-])(?:[\w-]+\.)+(?:{_ZONES})(?![\w-])(?::\d+)?(?:[/?#\\][^\s<>\"']*)?)",
    re.IGNORECASE,
)
_SCHEMES = ("http", "https")
_LONG_NUMBER = re.compile(r"(?<![\w.,])(?:\d[ -]?){11,}\d(?![\w])")
_NAMED_LINK = re.compile(r"!?\[([^\]\n]*)\]\(\s*\)")
_END = re.compile(r"[.!?…](?=\s)|\n")


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something in a text that leads somewhere."""

    kind: Literal["link", "email", "number"]
    start: int
    end: int
    text: str
    key: str
    """A host, an address in lower case, or digits: what is compared."""


def plain(text: str) -> str:
    """The text without invisible characters, and with digits and Latin letters of every width as the usual ones."""
    shown = "".join(
        c for c in text if c == "\u200d" or unicodedata.category(c) not in ("Cf", "Cc", "Cs") or c in "\n\t"
    )
    return "".join(_usual(c) for c in shown)


def _usual(c: str) -> str:
    if "\uff01" <= c <= "\uff5e":
        return chr(ord(c) - 0xFEE0)
    if not c.isascii() and (digit := unicodedata.decimal(c, None)) is not None:
        return str(digit)
    return c


def suspects(text: str, country: str) -> list[Suspect]:
    """Everything that leads somewhere, in order; numbers as people of this country (two letters) write them."""
    found = list[Suspect]()
    for match in _LINK.finditer(text):
        whole = match[0].rstrip(".,;:!?]}»”'")
        while whole.endswith(")") and whole.count("(") < whole.count(")"):
            whole = whole[:-1].rstrip(".,;:!?]}»”'")
        if match["scheme"] and not _is_scheme(match["scheme"]):
            continue
        if match["email"]:
            found.append(Suspect("email", match.start(), match.start() + len(whole), whole, whole.casefold()))
        else:
            found.append(Suspect("link", match.start(), match.start() + len(whole), whole, host_of(whole)))
    taken = [(one.start, one.end) for one in found]
    for start, end in _numbers(text, country):
        if not any(first < end and start < last for first, last in taken):
            taken.append((start, end))
            found.append(Suspect("number", start, end, text[start:end], digits(text[start:end])))
    return sorted(found, key=lambda one: one.start)


def _is_scheme(text: str) -> bool:
    """`слово:слово` of a text without spaces is no link; what has slashes, or is dialled or mailed, is."""
    name, _, rest = text.partition(":")
    return rest.startswith(("//", "\\\\")) or name.lower() in ("tel", "mailto", "javascript", "data", "sms")


def _numbers(text: str, country: str) -> Iterable[tuple[int, int]]:
    for leniency, region in ((Leniency.VALID, country), (Leniency.POSSIBLE, None)):
        for match in PhoneNumberMatcher(text, region, leniency=leniency):
            if len(digits(match.raw_string)) >= 7:
                yield match.start, match.end
    for long in _LONG_NUMBER.finditer(text):
        yield long.start(), long.end()


def digits(text: str) -> str:
    """The digits of a text."""
    return "".join(c for c in text if c.isdecimal())


def host_of(link: str) -> str:
    """The host that a link leads to, as machines compare it; empty where that cannot be told, and for what is no web address."""
    rest = link.replace("\\", "/")
    scheme, colon, behind = rest.partition(":")
    if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) and "." not in scheme:
        if scheme.lower() not in _SCHEMES:
            return ""
        rest = behind
    place = re.split(r"[/?#]", rest.lstrip("/"), maxsplit=1)[0].rpartition("@")[2]
    host = place.partition(":")[0].rstrip(".").casefold()
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What an answer may name."""

    hosts: frozenset[str] = frozenset()
    """Domains, as `host_of` gives them; with their subdomains."""
    texts: str = ""
    """Where links, addresses and numbers may come from: the profile, what was read of the catalog, the client's words."""

    def allows(self, one: Suspect) -> bool:
        """Whether it may be said."""
        if one.kind == "number":
            return _has_number(self.texts, one.key)
        host = one.key.rpartition("@")[2]
        if host and any(host == known or host.endswith(f".{known}") for known in self.hosts):
            return True
        return one.text.casefold() in self.texts.casefold()


def _has_number(texts: str, key: str) -> bool:
    """Whether a number stands in a text, written in any way; a national one may stand there as an international one."""
    known = {digits(found) for found in re.findall(r"\+?\d[\d \u00a0()./-]*\d", texts)}
    return any(one == key or (len(key) >= 7 and (one.endswith(key[-9:]) and key.endswith(one[-9:]))) for one in known)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text without what was cut."""

    text: str
    removed: tuple[str, ...]


def cut(text: str, unwanted: Sequence[Suspect]) -> Cleaned:
    """Takes these out of a text, with what they leave behind: empty brackets, doubled spaces."""
    for one in sorted(unwanted, key=lambda one: one.start, reverse=True):
        text = text[: one.start] + text[one.end :]
    if unwanted:
        text = _NAMED_LINK.sub(r"\1", text)
        text = re.sub(r"\(\s*\)|\[\s*\]|«\s*»|<\s*>", "", text)
        text = re.sub(r"[ \t]+([.,;!?])", r"\1", re.sub(r"[ \t]{2,}", " ", text))
        text = "\n".join(line.rstrip() for line in text.splitlines())
    return Cleaned(text.strip(), tuple(one.text for one in unwanted))


def shortened(text: str, longest: int = LONGEST) -> str:
    """At most so many characters, cut behind the last sentence that fits."""
    if len(text) <= longest:
        return text
    head = text[:longest]
    ends = [match.end() for match in _END.finditer(head)]
    return (head[: ends[-1]] if ends and ends[-1] > longest // 3 else head.rpartition(" ")[0] or head).strip()


# Lines of the prompt ---------------------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(r"\{\{[^{}\n]*\}\}")


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold().replace("ё", "е")).split())


def prompt_lines(content: str) -> tuple[str, ...]:
    """The lines of a prompt's text that nobody says by chance, as they are compared; what is filled in is no part of them."""
    found = [_words(piece) for line in content.splitlines() for piece in _PLACEHOLDER.split(line)]
    return tuple(dict.fromkeys(one for one in found if len(one) >= LEAST_LINE and len(one.split()) >= LEAST_WORDS))


def repeated(text: str, lines: Iterable[str]) -> str | None:
    """A line of the prompt that a text repeats, or None."""
    said = f" {_words(text)} "
    return next((line for line in lines if f" {line} " in said), None)


def without_repeated(text: str, lines: Sequence[str]) -> str:
    """The text without the sentences that repeat lines of the prompt; empty where nothing else is left."""
    kept = [line for line in re.split(r"(?<=[.!?…])\s+|\n", text) if repeated(line, lines) is None]
    left = " ".join(kept).strip()
    return left if left and repeated(left, lines) is None else ""
