"""What comes in from an outside system by itself: webhooks it calls, and streams (long polls) that a client reads.

Both end in the same place. An adapter turns what came into updates, each with the provider's own id; the gateway makes them
durable, recognises repeats by that id, and only then answers or confirms. Everything here is a shape; the functions of an
`Inbound` are pure and live in an adapter's `codec.py`. Read `gateway/web/api/hooks.py` for the address and
`actors/chats/channel_session.py` for the streams.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from gateway.domain.orders import OrderStatus

Stream = Literal["chats", "deals"]
"""Who processes the updates: the tenant's chats or its deals. Calls have addresses of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCall:
    """A request to `/hooks/KIND/HOOK_ID` or `/hooks/KIND`, as it came: the body raw, for signatures are over its bytes."""

    method: str
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in the words of the outside system. Status 401 or 403: the request is not genuine, and is counted."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Update:
    """One update of the outside system."""

    id: str
    """The provider's own id: a second update of an integration with an equal id changes nothing."""
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A user of the outside system wants to be connected with a number. It is placed under the rules of click-to-call, once."""

    id: str
    """The provider's own id of the request: a second one with an equal id changes nothing."""
    phone: str
    user_id: str = ""
    """Whose phone rings first, by the user's id there. Without it, and without `extension`: that of whoever is responsible for
    the number there."""
    extension: str = ""
    ids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What things of this call are called there already, for its deliveries (`Attempt.known`)."""
    unused: Mapping[str, Any] | None = None
    """The body of a delivery of kind UNUSED_CALL that goes with the order, to clean up there where no call comes of it. Added to
    it: `at`, when it was placed, in seconds since the epoch; `refused`, the reason, where it was not."""


UNUSED_CALL = "unused_call"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNews:
    """What became, in the outside system, of an order that was delivered there."""

    order_id: str
    """Ours. Only what this integration was sent is changed by it (`Attempt.remember` of `SENT_ORDER`)."""
    status: OrderStatus


SENT_ORDER = "order"
"""The name under which an adapter remembers what an order is there, before it is made there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedHook:
    """One address, `/hooks/KIND`, for the accounts of all companies that use the installation's application. Pure. Each part is
    led to the integration that has the account in its settings field marked `account` (`adapters.base.setting`)."""

    verify: Callable[[WebhookCall, Any], Reply | None]
    """`verify(call, app)`: as `Inbound.verify`, by the application's credentials."""
    accounts: Callable[[bytes], Mapping[str, bytes]]
    """`accounts(body)`: each account's part of a body, as its `Inbound.read` takes it: a provider sends news of several
    accounts in one request. Raises ValueError for a body that is nothing this system sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """How an outside system calls us. Pure functions of its codec."""

    verify: Callable[[WebhookCall, Any], Reply | None]
    """`verify(call, settings)`: None where the request is genuine and holds updates; else the answer to send (a handshake, a
    refusal). Compares secrets in constant time, over the raw bytes."""
    read: Callable[[bytes, Any], Sequence[Update]]
    """`read(body, settings)`. Raises ValueError for a body that is nothing this system sends."""
    accepts: Callable[[Any], bool] = lambda settings: True
    """Whether these settings want webhooks at all; otherwise the address is 404, as if it were not there."""
    accepted: Reply = Reply()
    """The response for the outside system once everything is durable."""
    answered: Callable[[Sequence[Update], Any], Reply | None] = lambda updates, settings: None
    """`answered(updates, settings)`: the response in the place of `accepted`, for systems that show people what they are answered;
    a repeat gets the same."""
    calls: Callable[[bytes, Any], Sequence[RequestedCall]] | None = None
    """`calls(body, settings)`: the calls that a genuine body requests. Raises ValueError as `read` does."""
    orders: Callable[[bytes, Any], Sequence[OrderNews]] | None = None
    """`orders(body, settings)`: how far orders are that were delivered there, the oldest news first. Raises ValueError as `read` does."""
    jobs: Callable[[bytes, Any], Sequence[str]] | None = None
    """`jobs(body, settings)`: the names of the integration's jobs that a genuine body makes due now."""
    stream: Stream = "chats"
    shared: SharedHook | None = None
    """For providers that call one address for all accounts of an application."""


class UpdateSink(Protocol):
    """Where a client that reads a stream leaves what came."""

    async def received(self, updates: Sequence[Update]) -> None:
        """Returns once the updates are durable, so that they may be confirmed. Waits while nothing can be stored."""
        ...


@runtime_checkable
class StreamsUpdates(Protocol):
    """A client that reads updates by itself for as long as its session lives."""

    async def run(self, sink: UpdateSink) -> None:
        """One session. Raises Unavailable, NeedsAttention or RemoteProtocolError at its end; never returns otherwise.
        Connecting again with backoff is the caller's."""
        ...
