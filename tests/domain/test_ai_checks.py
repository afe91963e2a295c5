"""What is noticed of words: another alphabet, another company's name, swearing and threats; and what is none of these."""

import pytest

from gateway.domain.ai_checks import abusive, alphabet_of, foreign_name, swears, wrong_language

GIVEN = "# Роль\nТы оператор компании June, пиццерии «Июнь» в Минске.\nМаргарита, Пепперони"


@pytest.mark.parametrize(
    ("answer", "asked", "wrong"),
    [
        ("Hello! We have a Margherita for 12.50 BYN.", "Какие есть пиццы?", True),
        ("Здравствуйте! Есть Маргарита за 12.50 BYN.", "Which pizzas do you have?", True),
        ("您好，我们有玛格丽塔披萨，价格是十二块五毛白俄罗斯卢布，请问您要几个？", "Какие есть пиццы?", True),
        ("Есть Margherita и Pepperoni, обе по 12.50 BYN.", "Какие есть пиццы?", False),
        ("We have Маргарита today, and it is 12.50 BYN for one.", "Which pizzas?", False),
        ("OK", "Какие есть пиццы?", False),
        ("Hello! We have a Margherita for 12.50 BYN.", "2?", False),
    ],
)
def test_an_answer_in_another_alphabet(answer: str, asked: str, wrong: bool) -> None:
    assert wrong_language(answer, asked) is wrong


def test_the_alphabet_of_a_mixed_text_is_not_known() -> None:
    assert alphabet_of("abcd абвг", 4) == ""
    assert alphabet_of("", 0 + 1) == ""


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Добро пожаловать в Додо Пиццу! Чем помочь?", "Додо Пиццу"),
        ("Вы обратились в компанию «Рога и копыта».", "Рога и копыта"),
        ("Здравствуйте, я виртуальный помощник магазина «Пятёрочка».", "Пятёрочка"),
        ("Welcome to Domino's! What would you like?", "Domino's"),
        ("I'm a virtual assistant from Acme Corp, how can I help?", "Acme Corp"),
        ("Добро пожаловать в June!", None),
        ("Вы обратились в пиццерию «Июнь».", None),
        ("Спасибо, что выбрали пиццерию Июнь!", None),
        ("У нас есть «Додо», но не сегодня.", None),
        ("I am looking at March 5 for you.", None),
        ("Я оператор. Чем помочь?", None),
    ],
)
def test_another_companys_name(answer: str, name: str | None) -> None:
    assert foreign_name(answer, GIVEN) == name


@pytest.mark.parametrize(
    "text",
    [
        "Вы там охуели совсем", "ну и хуйня", "пиздец какой-то", "да ебал я вашу доставку", "Бля, где пицца", "мудаки", "What the fuck",
        "this is bullshit", "Я вас убью", "подам на вас в суд!", "завтра напишу жалобу в Роспотребнадзор", "I will sue you",
        "I'll burn your shop down", "see you in court",
    ],
)  # fmt: skip
def test_swearing_and_threats(text: str) -> None:
    assert abusive(text)


@pytest.mark.parametrize(
    "text",
    [
        "Чёрный хлеб и учебник", "требуется небольшой ребёнку стул", "не оскорбляйте", "хуже не будет", "художник и худи", "Хуан из Эквадора",
        "убить время", "скидка на суккуленты", "Hi, I need a bass guitar", "assessment class", "бомбочки для ванны", "Екатеринбург, Ёбург",
        "колебания потребителей", "глубина", "рубль", "себя", "EBITDA и ебитда", "судебный юрист нужен", "shiitake mushrooms", "Scunthorpe",
        "подам заявление на визу", "сукно и сукровица", "мудрый", "оставлю отзыв, подам заявку",
    ],
)  # fmt: skip
def test_what_is_no_abuse(text: str) -> None:
    assert not abusive(text)
    assert not swears(text)
