"""What an answer of a model must not be, and what of a client's words leads to a person: a foreign language, another company's name,
swearing, threats. Pure. Read `ai_replies.py` for links, numbers and lines of the prompt.

These are plain rules over words. They miss what is said in other words, for which the prompt and `hand_over` are; where they see
something that is not there, the model is asked once more, or a person looks.
"""

import re
import unicodedata
from collections import Counter

LEAST_ASKED, LEAST_ANSWERED = 4, 20
"""Letters below which the alphabet of a text says nothing: of a client's, of an answer's."""
MOST_OF_IT = 0.7
"""The part of its letters by which a text is of one alphabet."""

_NAME = r"\s+(?:[«\"“„](?P<quoted>[^»\"”\n]{2,60})[»\"”]|(?P<bare>[A-ZА-ЯЁ][\w&'’.-]*(?:\s+[A-ZА-ЯЁ&][\w&'’.-]*){0,4}))"
_CLAIMS = tuple(
    re.compile(f"(?i:{before}){_NAME}")
    for before in (
        r"\bдобро пожаловать во?(?:\s+[а-яё]+){0,2}?",
        r"\b(?:вы обратились во?|вас приветствует|от имени|спасибо, что (?:выбрали|обратились во?))(?:\s+[а-яё]+){0,2}?",
        r"\bя(?:\s*[,—-])?(?:\s+[а-яё-]+){0,3}?\s+(?:оператор|помощник|ассистент|консультант|администратор|менеджер|представитель)"
        r"(?:\s+[а-яё]+){0,2}?",
        r"\b(?:welcome to|on behalf of|thank(?:s| you) for (?:contacting|choosing|calling))(?: the)?",
        r"\bi(?:['’]m| am)(?: the| an?| your)?(?: [\w-]+){0,3}? (?:operator|assistant|consultant|manager|administrator|representative)"
        r" (?:from|at|of|with|for)(?: the)?",
    )
)
"""How somebody says whose they are. Case counts in the name alone."""

_SWEARING = re.compile(
    r"\b(?:(?:за|на|вы|у|от|до|по|раз[ъь]?|об[ъь]?|с[ъь]|под[ъь]?|про|пере|недо|долбо|из[ъь]?)?[её]б(?:а|у(?!рг)|и(?!тда)|ё|ло|ну|ош)\w*"
    r"|(?:на|по|ни|до|о|от|за)?ху[йеёюяи](?!дож)\w*|\w*пизд\w*|бля(?:д\w*|ть)?|сук(?:а|и|у|ой|ин\w*)|муд(?:ак|ил|оз)\w*|г[ао]ндон\w*"
    r"|пид[оа]р\w*|залуп\w*|шлюх\w*"
    r"|(?:mother)?fuck\w*|(?:bull)?shit(?:ty|head|s)?|cunts?|assholes?|bitch(?:es)?|dickheads?|bastards?)\b",
    re.IGNORECASE,
)
_THREATS = re.compile(
    r"\b(?:убью|зарежу|пристрелю|прибью|сожгу|подожгу|взорв(?:у|ём|ем)|бомб[уа] (?:в|под|у) (?:ваш|вас)\w*|(?:раз|вы)несу (?:ваш|вас)\w*"
    r"|пожалеете об этом|под(?:ам|аю|адим) (?:на вас )?в суд|встретимся в суде|увидимся в суде|прокуратур\w*|роспотребнадзор\w*"
    r"|(?:напишу|подам|накатаю) (?:на вас (?:жалобу|заявление)|жалобу|заявление (?:на вас|в (?:полицию|милицию|суд|прокуратуру)))"
    r"|(?:i(?:['’]ll| will)|gonna|going to) (?:kill|sue|shoot|hurt|stab|burn)|kill you|blow (?:you|it|your \w+) up|burn (?:it|your \w+) down"
    r"|take you to court|see you in court|hear from my lawyer|my lawyer will)\b",
    re.IGNORECASE,
)


def alphabet_of(text: str, least: int) -> str:
    """The alphabet of most of a text's letters, as Unicode names it (`LATIN`, `CYRILLIC`); empty where there are fewer than `least`
    letters, or none has the most of them."""
    found = Counter(unicodedata.name(c, "?").partition(" ")[0] for c in text if c.isalpha())
    total = found.total()
    if total < least:
        return ""
    name, count = found.most_common(1)[0]
    return name if count >= MOST_OF_IT * total else ""


def wrong_language(answer: str, asked: str) -> bool:
    """Whether an answer is in another alphabet than what the client wrote."""
    theirs, ours = alphabet_of(asked, LEAST_ASKED), alphabet_of(answer, LEAST_ANSWERED)
    return bool(theirs and ours) and theirs != ours


def _bare(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold().replace("ё", "е")).split())


def foreign_name(answer: str, given: str) -> str | None:
    """A company's name by which an answer introduces itself, and which nothing that the company has given names; None: there is none.
    A word counts as named in whichever case it stands."""
    known = _bare(given)
    for pattern in _CLAIMS:
        for match in pattern.finditer(answer):
            name = match["quoted"] or match["bare"]
            words = [word if len(word) < 5 else word[:-2] for word in _bare(name).split()]
            if words and not all(f" {word}" in f" {known}" for word in words):
                return str(name)
    return None


def abusive(text: str) -> bool:
    """Whether a client swears or threatens."""
    plain = text.replace("\u0301", "")
    return bool(_SWEARING.search(plain) or _THREATS.search(plain))


def swears(text: str) -> bool:
    """Whether a text has words that no company writes."""
    return bool(_SWEARING.search(text))
