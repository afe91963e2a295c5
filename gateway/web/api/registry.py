"""`GET /api/v1/integrations/available`: the outside systems that a company can connect, with what each has to be given.

Answers from the adapters in memory, in the language of the request. Who may ask is the caller's to decide (`authorise`). Read
`adapters/catalogue.py` for what is in an entry.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from adapters.catalogue import entries
from gateway.domain.texts import LANGUAGES
from gateway.web.http.routes import Address, Request, Response, answer_json
from gateway.web.translations import preferred

PATH = "/api/v1/integrations/available"
Authorise = Callable[[Request], Awaitable[Response | None]]
"""None where the request may be answered; else the answer to send."""


def available(language: str) -> dict[str, Any]:
    """The answer: all of them at once, so there is never a next page."""
    return {"items": entries(language), "next": None}


def registry_addresses(authorise: Authorise) -> list[Address]:
    """The address."""

    async def handle(request: Request) -> Response:
        if (refused := await authorise(request)) is not None:
            return refused
        return answer_json(available(preferred(request.headers.get("accept-language", "")) or LANGUAGES[0]))

    return [
        Address(method="GET", path=PATH, handler=handle,
                summary="Outside systems that can be connected, with the fields of their settings in the language of Accept-Language",
                answers={200: "OK", 401: "The API key is missing or not valid", 429: "Many wrong keys from one address"}),
    ]  # fmt: skip
