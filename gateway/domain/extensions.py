"""The map of an outside system's users to internal numbers: one number, one user. Pure.

Owns the rules of changing a map and of comparing two of them. It knows no system, no table and no page; read
`actors/crm/registration.py` next for who uses it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Extensions = Mapping[str, str]
"""User id -> internal number."""

_USER = re.compile(r"[0-9A-Za-z_.:@+-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"[0-9A-Za-z_.*#-]{1,40}", re.ASCII)


def user_id(text: str) -> str:
    """The id of a user as it is stored. Raises ValueError for what is none. An adapter may know better (`Adapter.user_id`)."""
    if not _USER.fullmatch(text):
        raise ValueError("must be letters, digits and _ . : @ + -, at most 64 characters")
    return text


def read_map(
    pairs: Iterable[tuple[Any, Any]], read_user: Callable[[str], str] = user_id
) -> tuple[dict[str, str | None], list[tuple[str, str]]]:
    """A map of users to internal numbers as people and programs write it, and every problem by the user it is about (empty:
    about the map). Numbers may be written as such; null or nothing takes a user's number away."""
    values: dict[str, str | None] = {}
    problems: list[tuple[str, str]] = []
    for given_user, given_number in pairs:
        try:
            user = read_user(_text(given_user))
        except ValueError as error:
            problems.append(("", f"the id of a user {error}"))
            continue
        number = _text(given_number)
        is_text = given_number is None or (isinstance(given_number, str | int) and not isinstance(given_number, bool))
        if not is_text or (number and not _NUMBER.fullmatch(number)):
            problems.append((user, "must be an internal number, or null to take it away"))
        elif user in values and values[user] != (number or None):
            problems.append((user, "is named twice"))
        else:
            values[user] = number or None
    return values, problems


def _text(value: Any) -> str:
    """Text without spaces around it; empty for what is neither a text nor a whole number."""
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


@dataclass(frozen=True, slots=True)
class Moved:
    """A number that passed from one user to another."""

    number: str
    old_user: str
    new_user: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A map after changes, and whom they took a number from."""

    extensions: Extensions
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One user whose number is not the same in two maps."""

    user_id: str
    ours: str | None
    theirs: str | None


def given(values: Mapping[str, str | None]) -> dict[str, str]:
    """A map without the users whose number was taken away."""
    return {user: number for user, number in values.items() if number}


def clashes(changes: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Numbers that one request gives to several users, with those users: which one was meant is unknown."""
    owners: dict[str, list[str]] = {}
    for user, number in changes.items():
        if number:
            owners.setdefault(number, []).append(user)
    return {number: tuple(users) for number, users in owners.items() if len(users) > 1}


def change(current: Extensions, changes: Mapping[str, str | None]) -> Changed:
    """The map after `changes` without clashes: users that are not named keep their numbers, unless one of those is
    given to somebody else. None takes a user's number away."""
    stored = {user: number for user, number in current.items() if user not in changes}
    moved = []
    for user, number in changes.items():
        holder = next((other for other, held in stored.items() if held == number), None) if number else None
        if holder is not None and number:
            moved.append(Moved(number, holder, user))
            del stored[holder]
    return Changed(stored | given(changes), tuple(moved))


def adopt(ours: Extensions, theirs: Extensions) -> dict[str, str]:
    """Our map with what theirs knows of users and numbers that ours does not contain."""
    taken = set(ours.values())
    adopted = dict(ours)
    for user, number in theirs.items():
        if user not in adopted and number not in taken:
            adopted[user] = number
            taken.add(number)
    return adopted


def differences(ours: Extensions, theirs: Extensions) -> tuple[Difference, ...]:
    """Every user whose number differs, in order of their ids."""
    users = sorted(ours.keys() | theirs.keys(), key=lambda user: (len(user), user))
    return tuple(
        Difference(user, ours.get(user), theirs.get(user)) for user in users if ours.get(user) != theirs.get(user)
    )


def not_among(numbers: Iterable[str], phones: Iterable[str]) -> tuple[str, ...]:
    """The numbers that are no phones of the tenant's, each once; none where it lists no phones."""
    known = set(phones)
    return tuple(dict.fromkeys(number for number in numbers if number not in known)) if known else ()
