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
    read_map,
    user_id,
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


@pytest.mark.parametrize(
    ("pairs", "values"),
    [
        ([(19, 150), ("18", "151"), ("22", None), ("23", "")], {"19": "150", "18": "151", "22": None, "23": None}),
        ([("anna.k@june.example", " 150 "), (" 5f3a-9c ", "1*0")], {"anna.k@june.example": "150", "5f3a-9c": "1*0"}),
        ([(19, "150"), ("19", 150)], {"19": "150"}),
        ([], {}),
    ],
)
def test_a_map_as_people_write_it(pairs: list[tuple[object, object]], values: dict[str, str | None]) -> None:
    assert read_map(pairs) == (values, [])


@pytest.mark.parametrize(
    ("pair", "user"),
    [
        (("", "150"), ""), ((True, "150"), ""), (("a b", "150"), ""), (("x" * 65, "150"), ""), (("19\n", "150"), None),
        (("19", "1 50"), "19"), (("19", ["150"]), "19"), (("19", True), "19"), (("19", "x" * 41), "19"),
    ],
)  # fmt: skip
def test_what_is_no_user_or_no_number(pair: tuple[object, object], user: str | None) -> None:
    values, problems = read_map([pair])
    if user is None:
        assert (values, problems) == ({"19": "150"}, [])
    else:
        assert values == {}
        assert [one for one, _ in problems] == [user]


def test_one_user_named_twice() -> None:
    assert read_map([("19", "150"), (19, "151")])[1] == [("19", "is named twice")]


def test_an_adapter_knows_better_what_an_id_is() -> None:
    def digits(text: str) -> str:
        if not text.isdecimal():
            raise ValueError("is a number")
        return str(int(text))

    assert read_map([("007", "150")], digits) == ({"7": "150"}, [])
    assert read_map([("anna", "150")], digits)[1] == [("", "the id of a user is a number")]
    assert user_id("anna") == "anna"
