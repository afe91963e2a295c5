"""New passwords: what anybody tries first is not taken."""

import pytest

from gateway.domain.new_passwords import wrong_with_password


@pytest.mark.parametrize(
    "text",
    [
        "", "short", "123456789", "x" * 300, "1234567890", "0987654321", "password123", "Password1!", "P@ssw0rd123", "qwerty12345",
        "qwertyuiop", "1q2w3e4r5t", "1qaz2wsx3edc", "iloveyou2024", "admin12345", "administrator1", "aaaaaaaaaa", "abababababab",
        "йцукенгшщз", "пароль12345", "Пароль2025!", "gfhjkm12345", "letmein12345", "Welcome2025", "20240101010", "passwordpassword",
        "anna.kuzmina@june.example", "kuzmina2025", "zxcvbnm123", "changeme123", "qwerty_12345", "abcdefghij",
    ],
)  # fmt: skip
def test_what_is_tried_first(text: str) -> None:
    problem = wrong_with_password(text, "anna.kuzmina@june.example")
    assert problem
    assert len(text) < 4 or text not in problem


@pytest.mark.parametrize(
    "text",
    ["correct horse", "a long password", "Vq8-rT2p-9mLx", "три зелёных яблока", "kuzmina likes rain", "8f3b1c9d7a"],
)
def test_what_is_taken(text: str) -> None:
    assert wrong_with_password(text, "anna.kuzmina@june.example") == ""
