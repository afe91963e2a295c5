"""Properties of what is asynchronous: many examples against one world, in one run of Trio."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

T = TypeVar("T")


async def holds(check: Callable[[T], Awaitable[None]], example: st.SearchStrategy[T], examples: int = 100) -> None:
    """Runs `check` with each example. Hypothesis itself is synchronous and works in a thread."""

    @settings(max_examples=examples, deadline=None, database=None)
    @given(one=example)
    def attempts(one: T) -> None:
        trio.from_thread.run(check, one)

    try:
        await trio.to_thread.run_sync(attempts)
    except BaseExceptionGroup as group:  # of one: the example that fails, shrunk
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
