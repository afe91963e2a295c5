"""What answers mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.folder import read_folder
from adapters.http import Answer
from adapters.instagram.codec import Account, Renewed, account, message_id, read, renewed, seed_of, stored, subscribed
from adapters.meta import Unclear
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.secret import Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, raw=raw, headers=headers)


def refused(code: Any, subcode: int = 0, message: str = "Meta's words", status: int = 400, **more: Any) -> Answer:
    return answer({"error": {"message": message, "code": code, "error_subcode": subcode, **more}}, status)


def raised(given: Answer, attempt: int = 1) -> GatewayError:
    with pytest.raises(GatewayError) as error:
        read(given, attempt)
    return error.value


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (refused(190, 463), BadCredentials, "190"), (refused(190, status=200), BadCredentials, "190"), (refused(102), BadCredentials, "102"),
        (refused(10, 2534022), Rejected, "more than 24 hours"), (refused(10, 2018278), Rejected, "more than 24 hours"),
        (refused(10, message="(#10) This message is sent outside of allowed Window."), Rejected, "more than 24 hours"),
        (refused(10), BadSettings, "10"), (refused(3), BadSettings, "3"), (refused(200), BadSettings, "200"), (refused(299), BadSettings, "299"),
        (refused(368), BadSettings, "368"),
        (refused(551), Rejected, "cannot be reached"), (refused(200, 1545041), Rejected, "cannot be reached"),
        (refused(100, 2018001), Rejected, "does not know"), (refused(100), Rejected, "100: Meta's words"),
        (refused(4), RateLimited, "4"), (refused(17), RateLimited, "17"), (refused(32), RateLimited, "32"), (refused(613), RateLimited, "613"),
        (refused(80002), RateLimited, "80002"),
        (refused(1), Unavailable, "1"), (refused(2), Unavailable, "2"), (refused(-1, status=500), Unavailable, ""),
        (refused(9, is_transient=True), Unavailable, "9"), (refused("190"), Rejected, ""), (refused(None), Rejected, ""),
        (answer(b"<html>", 503), Unavailable, "503"), (answer(b"", 429), RateLimited, "429"), (answer(b"", 401), BadCredentials, "401"),
        (answer(b"", 404), Rejected, "404"),
    ],
)  # fmt: skip
def test_every_answer_has_its_reaction(given: Answer, error: type[GatewayError], words: str) -> None:
    found = raised(given)
    assert type(found) is error
    assert words in found.detail
    assert getattr(found, "certain", True)


@pytest.mark.parametrize(
    "given", [answer(b""), answer(b"<html>"), answer([]), answer(b"[" * 100_000), answer(b"", 302)]
)
def test_what_is_no_answer_leaves_a_doubt(given: Answer) -> None:
    with pytest.raises(Unclear):
        read(given)


@pytest.mark.parametrize(
    ("subcode", "words"), [(463, "has ended"), (460, "password"), (458, "removed"), (0, "make a new one")]
)
def test_a_token_that_is_not_good_says_why_and_what_to_do(subcode: int, words: str) -> None:
    assert words in raised(refused(190, subcode)).person


def test_a_missing_right_says_where_to_give_it() -> None:
    assert "Allow access to messages" in raised(refused(200)).person
    assert "Meta's words" in raised(refused(200)).person


def test_a_file_that_meta_could_not_fetch_is_offered_again_and_then_refused() -> None:
    assert isinstance(raised(refused(100, 2018008), 1), Unavailable)
    assert isinstance(raised(refused(100, 2018008), 2), Unavailable)
    last = raised(refused(100, 2018008), 3)
    assert isinstance(last, Rejected)
    assert "public address" in last.detail


@pytest.mark.parametrize(
    ("given", "after_s"),
    [(answer(b"", 429, **{"retry-after": "7"}), 7.0), (answer(b"", 429), None), (refused(613), 30.0)],
)
def test_too_many_requests(given: Answer, after_s: float | None) -> None:
    found = raised(given)
    assert isinstance(found, RateLimited)
    assert found.after_s == after_s


def test_what_a_message_fails_with_has_words_for_people() -> None:
    texts = read_folder("adapters.instagram").texts
    said = {key.partition(".")[2] for key in texts["ru"] if key.startswith("message_error.")}
    given = [refused(10, 2534022), refused(10, message="outside of the window"), refused(551), refused(200, 1545041), refused(100, 2018001),
             refused(100, 2534014), refused(100, 2018294), refused(100)]  # fmt: skip
    assert {raised(one, 9).detail.partition(":")[0] for one in given} <= said


def test_the_id_of_what_was_sent() -> None:
    assert message_id(read(answer({"recipient_id": "1", "message_id": "aWdf"}))) == "aWdf"
    assert message_id({}) == message_id({"message_id": 7}) == ""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"data": [{"user_id": "17841", "username": "june", "id": "9"}]}, Account("17841", "@june")),
        ({"user_id": "17841", "username": "june", "id": "9"}, Account("17841", "@june")),
        ({"name": "June", "id": "1", "instagram_business_account": {"id": "17841", "username": "june"}}, Account("17841", "@june")),
        ({"name": "June", "id": "1"}, Account("", "June")), ({}, Account("", "")), ({"data": "no"}, Account("", "")),
    ],
)  # fmt: skip
def test_the_account_of_a_token(given: Any, found: Account) -> None:
    assert account(given) == found


@pytest.mark.parametrize(
    ("data", "wanted", "app", "there"),
    [
        ([], {"messages"}, "", False), ("no", {"messages"}, "", False), ([{"id": "5", "subscribed_fields": ["messages"]}], {"messages"}, "", True),
        ([{"id": "5", "subscribed_fields": ["feed"]}], {"messages"}, "", False), ([{"app_id": "5"}], {"messages"}, "", True),
        ([{"id": "5", "subscribed_fields": [{"name": "messages"}]}], {"messages"}, "5", True),
        ([{"id": "6", "subscribed_fields": ["messages"]}], set(), "5", False), ([{"id": "5", "subscribed_fields": ["feed"]}], set(), "5", True),
    ],
)  # fmt: skip
def test_whether_our_application_gets_the_news(data: Any, wanted: set[str], app: str, there: bool) -> None:
    assert subscribed({"data": data}, frozenset(wanted), app) is there


def test_a_token_is_stored_and_read_and_never_printed() -> None:
    held = Renewed(Secret("IGAA-canary"), seed_of(Secret("IGAA-first")), NOW)
    fresh = held.stored(60.0)
    assert stored(fresh.value) == held
    assert "canary" not in f"{held!r} {fresh!r}"
    assert seed_of(Secret("a")) != seed_of(Secret("b"))


def test_a_renewal() -> None:
    found = renewed(answer({"access_token": "IGAA-2", "token_type": "bearer", "expires_in": 5_183_944}), "seed", NOW)
    assert found.expires_in_s == 5_183_944
    assert stored(found.value) == Renewed(Secret("IGAA-2"), "seed", NOW)


@pytest.mark.parametrize("body", [{}, {"access_token": "", "expires_in": 9}, {"access_token": "x"}, {"access_token": "x", "expires_in": "9"},
                                  {"access_token": "x", "expires_in": True}, {"access_token": "x", "expires_in": 0}])  # fmt: skip
def test_a_renewal_without_a_token(body: Any) -> None:
    with pytest.raises(Unavailable):
        renewed(answer(body), "seed", NOW)
