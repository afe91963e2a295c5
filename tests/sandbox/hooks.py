"""The gateway's webhook address for one adapter, over a real socket: verifies, reads, answers as the product does.

`taken` are the updates in their order, repeats left out by their ids like in the journal. What a sandbox messenger calls in the
tests of an adapter.
"""

from typing import Any

import trio

from adapters.inbound import Inbound, Update, WebhookCall
from tests.sandbox.web import Request, Response, Site


class Hooks:
    """`url = await nursery.start(hooks.serve)`; then hand the address to the messenger."""

    def __init__(self, inbound: Inbound, settings: Any, path: str) -> None:
        self.inbound, self.settings, self.path = inbound, settings, path
        self.taken: list[Update] = []
        self.answers: list[int] = []
        self.away = 0
        """So many calls are answered with 503."""
        self._known: set[str] = set()
        self._news = trio.Event()
        self.site = Site({("*", path): self._hook}, self._nobody)

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; starts with the address of the webhook."""
        async with trio.open_nursery() as nursery:
            base = await nursery.start(self.site.serve)
            task_status.started(base + self.path)

    async def wait_taken(self, count: int) -> list[Update]:
        """The updates, once there are so many."""
        with trio.fail_after(5):
            while len(self.taken) < count:
                await self._news.wait()
        return self.taken

    async def _hook(self, request: Request) -> Response:
        response = self._answered(request)
        self.answers.append(response.status)
        return response

    def _answered(self, request: Request) -> Response:
        if self.away:
            self.away -= 1
            return Response(503, b"", "text/plain")
        call = WebhookCall(method=request.method, query=dict(request.query), headers=request.headers, body=request.body)
        reply = self.inbound.verify(call, self.settings)
        if reply is None:
            try:
                found = self.inbound.read(request.body, self.settings)
            except ValueError:
                return Response(422, b"", "text/plain")
            for update in found:
                if update.id not in self._known:
                    self._known.add(update.id)
                    self.taken.append(update)
            self._news.set()
            self._news = trio.Event()
            reply = self.inbound.answered(found, self.settings) or self.inbound.accepted
        return Response(reply.status, reply.body, reply.content_type)

    async def _nobody(self, request: Request) -> Response:
        return Response(404, b"", "text/plain")
