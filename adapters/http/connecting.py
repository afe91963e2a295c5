"""Outgoing connections: the TLS context of the process, and connections to addresses that the policy allows.

Every connect resolves anew through the dialer (`addresses.py`) and uses one of its addresses. Sends nothing. Read
`client.py` next.
"""

import errno
import select
import ssl
import threading
from collections.abc import Sequence
from functools import cache

import httpx2
import trio

from adapters.base import Dialer
from gateway.domain.errors import Unavailable
from gateway.domain.reasons import reason


@cache
def _new_tls_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


_tls_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """The one client context of this process. To be called in a thread: reading the certificates takes 0.3 s."""
    with _tls_lock:
        return _new_tls_context()


_WHY = {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "no_route", errno.ENETUNREACH: "no_route"}


async def connect(host: str, port: int, *, tls: bool, dial: Dialer | None, within_s: float) -> trio.abc.Stream:
    """A fresh connection, and with `tls` a verified one. `dial` is None for an address that the operator has given. Raises
    what the dialer raises, `Unavailable` for everything else."""
    context = await trio.to_thread.run_sync(tls_context) if tls else None
    deadline = trio.current_time() + within_s
    failure = reason("no_connection")
    addresses: Sequence[str] = [host]
    if dial is not None:
        with trio.move_on_at(deadline) as scope:
            addresses = await dial.resolve_web(host, port, tls=tls)
        if scope.cancelled_caught:
            raise Unavailable(reason("name_in_time"))
    for tried, address in enumerate(addresses):
        # An address that swallows packets leaves the next one its share of the time.
        share = (deadline - trio.current_time()) / (len(addresses) - tried)
        if share <= 0:
            break
        try:
            with trio.move_on_after(share):
                return await _open(address, port, context, host)
        except OSError as error:
            number = error.errno or getattr(error.__cause__, "errno", None)
            failure = reason(_WHY[number]) if number in _WHY else f"no connection: {error}"
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else "TLS was refused"
            failure = f"no connection: {said}"
    raise Unavailable(failure[:200])


async def _open(address: str, port: int, context: ssl.SSLContext | None, host: str) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(address, port)
    if context is None:
        return stream
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def usable(stream: trio.abc.Stream) -> bool:
    """Whether a connection that rested is still open: nothing may have come on it, not even its end."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    poll = select.poll()
    try:
        poll.register(stream.socket.fileno(), select.POLLIN)
    except ValueError:  # closed
        return False
    return not poll.poll(0)
