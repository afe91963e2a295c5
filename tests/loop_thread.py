"""Something that outlives one test: an async context open on a Trio loop of its own thread."""

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class LoopThread:
    """Opens what `opened` gives, and closes it in the end. Its methods are for the test's thread, outside Trio."""

    def __init__(self, name: str, opened: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._opened = opened
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Returns once it is open. Raises what went wrong."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def do(self, work: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Runs `work` on its loop."""
        return trio.from_thread.run(partial(work, *args, **kwargs), trio_token=self._token)

    def stop(self) -> None:
        """Closes it. Raises what went wrong."""
        trio.from_thread.run_sync(self._done.set, trio_token=self._token)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._done = trio.Event()
        async with self._opened():
            self._ready.set()
            await self._done.wait()
