"""Which passwords are not taken: short ones, and those that anybody tries first. Pure; calls nothing outside.

A small list of ours in place of a library: bases of the common passwords of published leaks, English and Russian, walks over
the keyboard, and what stands in the person's own address. Digits and signs around a word, and digits in place of letters, do
not make another password of it. `gateway/web/session/passwords.py` hashes what is taken.
"""

import re

LEAST, MOST = 10, 256
_LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"})
_BASES = frozenset(
    [
        "password",
        "passwort",
        "passw",
        "passwd",
        "pass",
        "parol",
        "parole",
        "admin",
        "administrator",
        "root",
        "user",
        "login",
        "welcome",
        "letmein",
        "master",
        "secret",
        "qwerty",
        "qwertyuiop",
        "asdfgh",
        "asdfghjkl",
        "zxcvbn",
        "zxcvbnm",
        "iloveyou",
        "dragon",
        "monkey",
        "sunshine",
        "princess",
        "football",
        "baseball",
        "superman",
        "batman",
        "trustno",
        "shadow",
        "michael",
        "jordan",
        "hunter",
        "killer",
        "freedom",
        "whatever",
        "starwars",
        "computer",
        "internet",
        "changeme",
        "default",
        "guest",
        "test",
        "testing",
        "tester",
        "temp",
        "hello",
        "access",
        "google",
        "samsung",
        "summer",
        "winter",
        "spring",
        "autumn",
        "january",
        "december",
        "manager",
        "office",
        "company",
        "gateway",
        "telephony",
        "telefon",
        "call",
        "calls",
        "callcenter",
        "support",
        "service",
        "business",
        "system",
        "server",
        "oracle",
        "postgres",
        "пароль",
        "парольпароль",
        "админ",
        "администратор",
        "привет",
        "любовь",
        "йцукен",
        "йцукенг",
        "фывапролдж",
        "наташа",
        "марина",
        "солнышко",
        "максим",
        "пользователь",
        "тест",
        "секрет",
        "менеджер",
        "офис",
        "компания",
        "россия",
        "москва",
        "беларусь",
        "минск",
        "gfhjkm",
        "ghbdtn",
        "yfnfif",
        "rjvgfybz",
        "privet",
        "lubov",
        "natasha",
        "marina",
        "maksim",
        "russia",
        "moscow",
        "belarus",
        "minsk",
    ]
)
_WALKS = (
    "1234567890" * 3, "qwertyuiopasdfghjklzxcvbnm", "qwertyuiop" * 2, "asdfghjkl" * 2, "zxcvbnm" * 3,
    "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "qazwsxedcrfvtgbyhnujm", "q1w2e3r4t5y6u7i8o9p0",
    "abcdefghijklmnopqrstuvwxyz", "йцукенгшщзхъфывапролджэячсмитьбю", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "0987654321" * 2,
)  # fmt: skip


_REASONS = {
    "": "",
    "length": f"must be {LEAST} to {MOST} characters long",
    "common": "is one of those that are tried first; take several words",
    "walk": "is a walk over the keyboard; take several words",
}


def wrong_with_password(text: str, email: str = "") -> str:
    """Why this may be nobody's new password, in English; empty where it may. Repeats nothing of it."""
    return _REASONS[password_problem(text, email)]


def password_problem(text: str, email: str = "") -> str:
    """The same as a code, which names a text of the UI: length, common or walk."""
    if not LEAST <= len(text) <= MOST:
        return "length"
    lower = text.casefold()
    bare = re.sub(r"[\s._-]", "", lower)
    own = {part for part in re.split(r"[@.+_-]", email.casefold()) if len(part) > 2} | {email.casefold()}
    words = {re.sub(r"[^a-zа-яё]", "", bare), re.sub(r"^[^a-zа-яё]+|[^a-zа-яё]+$", "", bare)}
    words |= {re.sub(r"[^a-zа-яё]", "", word.translate(_LEET)) for word in (bare, *words)}
    words |= {half for word in words if (half := word[: len(word) // 2]) * 2 == word}
    if len(set(bare)) < 4 or bare.isdecimal() or words & _BASES or words & own or lower in own:
        return "common"
    if any(bare in walk or bare in walk[::-1] for walk in _WALKS):
        return "walk"
    return ""
