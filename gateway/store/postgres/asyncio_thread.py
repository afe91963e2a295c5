"""One thread running an asyncio loop, and the way across from Trio and back.

Owns the thread, the loop and the forwarding of cancellation. Never touches a database: `pool.py`, to be read next,
chooses the loop and what runs on it.

A crossing: `call_soon_threadsafe` in, a task on the loop, `TrioToken.run_sync_soon` out, each of them once for whatever
gathers before the other thread has woken. Cancelling the Trio side
cancels the asyncio task and then waits for that task's own cleanup, since a connection abandoned half way is lost.
"""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import outcome
import trio

from gateway.domain.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
RaiseCancel = Callable[[], Any]

log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 3.0
"""Cleanup that hangs on a frozen server is cancelled once more after this time."""

STOP_S = 10.0


class _Crossing(Generic[T]):
    """One call on its way: made by a Trio task, run by the loop, answered to the same Trio task."""

    __slots__ = ("_again", "_call", "_context", "_raise_cancel", "_task", "_thread", "answered", "caller", "result")

    def __init__(self, thread: "AsyncioThread", call: Callable[[], Awaitable[T]]) -> None:
        self._thread = thread
        self._call = call
        # Log lines written on the other side keep tenant and correlation id.
        self._context = contextvars.copy_context()
        self.caller = trio.lowlevel.current_task()
        self.result: outcome.Value[T] | outcome.Error | None = None
        self.answered = False
        self._raise_cancel: RaiseCancel | None = None
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    # On the loop's thread

    def start(self) -> None:
        self._task = self._thread.loop.create_task(self._run(), context=self._context)

    async def _run(self) -> None:
        result = await outcome.acapture(self._call)
        cancelled = isinstance(result, outcome.Error) and isinstance(result.error, asyncio.CancelledError)
        self._answer(outcome.Error(_closed()) if cancelled else result)

    def cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._again = self._thread.loop.call_later(CANCEL_AGAIN_S, self.cancel)
            # One that had not begun ends without a step of its own.
            self._task.add_done_callback(lambda _: self._answer(outcome.Error(_closed())))

    def _answer(self, result: "outcome.Value[T] | outcome.Error") -> None:
        if self._again is not None:
            self._again.cancel()
        if not self.answered:
            self.answered = True
            self.result = result
            self._thread.answer(self)

    # On Trio's thread

    def abort(self, raise_cancel: RaiseCancel) -> trio.lowlevel.Abort:
        self._raise_cancel = raise_cancel
        self._thread.send(self.cancel)
        return trio.lowlevel.Abort.FAILED

    def resume(self) -> None:
        # A result that arrived all the same is returned: the work is done. An unreachable server after a
        # cancellation is the cancellation itself. Other errors are bugs and must not get lost.
        result: Any = self.result
        failed = isinstance(result, outcome.Error) and isinstance(result.error, Unavailable)
        if failed and self._raise_cancel is not None:
            result = outcome.capture(self._raise_cancel)
        trio.lowlevel.reschedule(self.caller, result)


def _closed() -> Unavailable:
    return Unavailable("the database thread was closed", certain=False)


class AsyncioThread:
    """Runs asyncio functions for Trio tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._token = trio.lowlevel.current_trio_token()
        self._sent: deque[Callable[[], None]] = deque()
        self._answers: deque[_Crossing[Any]] = deque()
        self._lock = threading.Lock()
        """Held for a moment, for what both threads change."""
        self._loop_wakes = False
        self._trio_wakes = False

    async def run(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`await function(...)` on the loop. Raises what it raises, or Unavailable when the thread is closed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        crossing: _Crossing[T] = _Crossing(self, partial(function, *args, **kwargs))
        if not self.send(crossing.start):
            raise Unavailable("the database thread is closed")
        result: T = await trio.lowlevel.wait_task_rescheduled(crossing.abort)
        return result

    def send(self, step: Callable[[], None]) -> bool:
        """From Trio: `step` runs on the loop, soon. False when the loop is closed."""
        with self._lock:
            self._sent.append(step)
            if self._loop_wakes:
                return True
            self._loop_wakes = True
        try:
            self.loop.call_soon_threadsafe(self._on_loop)
        except RuntimeError:
            return False
        return True

    def _on_loop(self) -> None:
        with self._lock:
            self._loop_wakes = False
            steps, self._sent = self._sent, deque()
        for step in steps:
            step()

    def answer(self, crossing: "_Crossing[Any]") -> None:
        """From the loop: its caller goes on, soon."""
        with self._lock:
            self._answers.append(crossing)
            if self._trio_wakes:
                return
            self._trio_wakes = True
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._on_trio)

    def _on_trio(self) -> None:
        with self._lock:
            self._trio_wakes = False
            answers, self._answers = self._answers, deque()
        for crossing in answers:
            crossing.resume()


@asynccontextmanager
async def open_asyncio_thread(
    new_loop: Callable[[], asyncio.AbstractEventLoop], *, name: str
) -> AsyncIterator[AsyncioThread]:
    """The thread lives as long as the context. What still runs on it at the end is cancelled."""
    loop = new_loop()
    loop.set_exception_handler(_log_only)
    thread = threading.Thread(target=_serve, args=(loop,), name=name, daemon=True)
    thread.start()
    try:
        yield AsyncioThread(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join, STOP_S)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        unfinished = asyncio.all_tasks(loop)
        for task in unfinished:
            task.cancel()
        if unfinished:
            loop.run_until_complete(asyncio.wait(unfinished, timeout=STOP_S / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _log_only(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A stray callback error is a line in the log; the loop and everyone on it go on."""
    error = context.get("exception")
    log.warning("asyncio: %s (%s)", context.get("message", ""), type(error).__name__ if error else "no exception")
