"""The map of an outside system's users to internal numbers: one number, one user. Pure.

Owns the rules of changing a map and of comparing two of them. It knows no system, no table and no page; read
`actors/crm/registration.py` next for who uses it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Extensions = Mapping[str, str]
"""User id -> internal number."""


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
    """Numbers that one request gives to several users, with those users: nobody can tell which was meant."""
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
    """Our map with what theirs knows of users and numbers that ours says nothing about."""
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
