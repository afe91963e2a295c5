"""What the mutation tests have tried, printed at once; `pytest -s` shows it."""

from collections.abc import Sequence


def report(walls: str, made: int, survivors: Sequence[str]) -> None:
    """One line, and a line for each survivor."""
    print(f"\nwalls dropped: {walls}: {made} mutations made, {made - len(survivors)} caught")
    for survivor in survivors:
        print(f"  survived: {survivor}")
