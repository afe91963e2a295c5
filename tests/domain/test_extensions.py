"""One number, one user: changing a map, and comparing two."""

import pytest

from gateway.domain.extensions import (
    Difference,
    Moved,
    adopt,
    change,
    clashes,
    differences,
    given,
    not_among,
)

OURS = {"18": "151", "19": "150"}


@pytest.mark.parametrize(
    ("changes", "after", "moved"),
    [
        ({}, OURS, ()),
        ({"22": "152"}, {**OURS, "22": "152"}, ()),
        ({"19": None}, {"18": "151"}, ()),
        ({"19": ""}, {"18": "151"}, ()),
        ({"22": "150"}, {"18": "151", "22": "150"}, (Moved("150", "19", "22"),)),
        ({"18": "150", "19": "151"}, {"18": "150", "19": "151"}, ()),  # a swap takes nothing from anybody
        ({"19": "150"}, OURS, ()),
        ({"22": "150", "19": "153"}, {"18": "151", "19": "153", "22": "150"}, ()),
    ],
)
def test_changes(changes: dict[str, str | None], after: dict[str, str], moved: tuple[Moved, ...]) -> None:
    assert clashes(changes) == {}
    made = change(OURS, changes)
    assert (made.extensions, made.moved) == (after, moved)
    assert len(set(made.extensions.values())) == len(made.extensions)
    assert change(made.extensions, changes).extensions == made.extensions


def test_two_users_for_one_number_in_one_request() -> None:
    assert clashes({"18": "150", "22": "150", "19": None, "23": ""}) == {"150": ("18", "22")}


def test_differences_are_told_by_user() -> None:
    theirs = {"18": "151", "19": "155", "100": "160"}
    assert differences(OURS, theirs) == (Difference("19", "150", "155"), Difference("100", None, "160"))
    assert differences(OURS, dict(OURS)) == ()
    assert differences({}, {"7": "1"}) == (Difference("7", None, "1"),)


def test_adopting_takes_nothing_from_ours() -> None:
    assert adopt(OURS, {"19": "155", "22": "151", "23": "153", "24": "153"}) == {**OURS, "23": "153"}


def test_numbers_that_are_no_phones() -> None:
    assert not_among(["150", "999", "999"], ["150", "151"]) == ("999",)
    assert not_among(["150", "999"], []) == ()
    assert given({"19": "150", "22": None, "23": ""}) == {"19": "150"}
