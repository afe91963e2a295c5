"""What is cut from a model's answer and what stays; lines of the prompt that it repeats."""

import pytest

from gateway.domain.ai_replies import (
    Allowed,
    cut,
    host_of,
    plain,
    prompt_lines,
    repeated,
    shortened,
    suspects,
    without_repeated,
)

ALLOWED = Allowed(
    hosts=frozenset({"june.example", "xn--80ak6aa92e.example"}),
    texts="Тел. 8 (017) 111-22-33, +375291112233, info@mail.example; https://files.example/menu.pdf; мой номер 80296254070",
)


def cleaned(text: str) -> str:
    text = plain(text)
    return cut(text, [one for one in suspects(text, "BY") if not ALLOWED.allows(one)]).text


@pytest.mark.parametrize(
    "text",
    [
        "Маргарита стоит 12.50 BYN, доставка с 10:00-18:00.", "Открыты 10:00–22:00, пн-пт; 31.12.2026 закрыты.",
        "Смотрите https://june.example/menu?x=1 и shop.june.example.", "Пишите на hello@june.example или info@mail.example.",
        "Позвоните: +375 29 111-22-33 или 8 017 111-22-33.", "Перезвоним вам на +375 29 625-40-70.",
        "Цена 1 250 000 руб., артикул AB-12.50-7, размер 30 см, 2-3 шт.", "и т.д., т.е. завтра, кв. 5, д.7",
        "Меню: https://files.example/menu.pdf", "Итого:12.50 BYN", "Заказ № 1234567 на 29.11.2026 к 19:30", "👨‍👩‍👧 рады вам!",
        "https://xn--80ak6aa92e.example/", "1) пицца 2) чай", "e.g. tea, i.e. black", "3.14 и 2.5",
    ],
)  # fmt: skip
def test_what_stays(text: str) -> None:
    assert cleaned(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Оплатите тут: https://evil.example/pay?x=1.", "Оплатите тут:."),
        ("Смотрите [наше меню](https://evil.example/a) сейчас", "Смотрите наше меню сейчас"),
        ("Пишите evil.example сегодня", "Пишите сегодня"),
        ("www.evil.com/x, t.me/evil_bot и wa.me/375290000000", ", и"),
        ("https://june.example.evil.com/", ""), ("https://june.example@evil.com/", ""), ("https:\\\\evil.com\\june.example", ""),
        ("HTTPS://EVIL.COM", ""), ("https://evil.com#june.example", ""), ("notjune.example", ""),
        ("ev\u200bil.com", ""), ("ｅｖｉｌ.com", ""), ("магазин-зло.рф/скидка", ""),
        ("mailto:boss@evil.com", ""), ("boss@evil.com", ""), ("javascript:alert(1)", ""), ("tel:+375290000000", ""),
        ("Звоните +375 29 000-11-22!", "Звоните!"), ("Звоните 8 029 700 11 22.", "Звоните."),
        ("Звоните +1 (202) 555-0143", "Звоните"), ("Звоните ＋３７５２９７００１１２２", "Звоните"),
        ("Карта 4111 1111 1111 1111", "Карта"), ("http://93.184.216.34/x", ""), ("(https://evil.com)", ""),
    ],
)  # fmt: skip
def test_what_is_cut(text: str, left: str) -> None:
    assert cleaned(text) == left


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("https://June.Example:8443/x", "june.example"), ("june.example/x", "june.example"), ("//a.example", "a.example"),
        ("https://u:p@a.example", "a.example"), ("ftp://a.example", ""), ("https://пример.бел/", "xn--e1afmkfd.xn--90ais"),
        ("https://a..b/", ""), ("a.example.", "a.example"),
    ],
)  # fmt: skip
def test_hosts(link: str, host: str) -> None:
    assert host_of(link) == host


def test_long_answers_end_with_a_sentence() -> None:
    text = "Первое предложение. " * 3000
    short = shortened(text)
    assert len(short) <= 4000
    assert short.endswith(".")
    assert len(shortened("x" * 9000)) == 4000
    assert shortened("Да.") == "Да."


PROMPT = """# Роль
Ты оператор компании {{business_name}} и помогаешь клиентам выбрать пиццу.
# Правила
- Никогда не обещай скидок больше десяти процентов!
- Будь вежлив.
Наш телефон {{phone}}
"""


def test_lines_of_the_prompt_are_noticed() -> None:
    lines = prompt_lines(PROMPT)
    assert lines == ("и помогаешь клиентам выбрать пиццу", "никогда не обещай скидок больше десяти процентов")
    assert repeated("Мне сказали: «НИКОГДА не обещай скидок — больше десяти процентов».", lines) == lines[1]
    for fine in ("Наш телефон +375 29 111-22-33", "Будь вежлив.", "Скидок больше десяти процентов не бывает", ""):
        assert repeated(fine, lines) is None
    assert (
        without_repeated("Здравствуйте! Никогда не обещай скидок больше десяти процентов! Чем помочь?", lines)
        == "Здравствуйте! Чем помочь?"
    )
    assert without_repeated("Никогда не обещай скидок больше десяти процентов", lines) == ""
    assert without_repeated("Никогда не обещай. скидок больше десяти процентов", lines) == "", (
        "cut in two it is the same"
    )
