"""Connections to the manager interface, and the one for actions: events never wait for an action, nor it for them.

`ActionLine` logs in with events off when the first action is requested, keeps the connection for a while, and does one
action at a time. A connection that was idle is tested before anything with an effect is sent on it; an
action that was sent and not answered is never sent again. Nothing is sent at all before the other end has called itself an
Asterisk manager, and any other failure there (nobody listens, packets are dropped, another service answers) is
one and the same error to people, so that nobody scans ports with these settings. Read `session.py` for the event connection.
"""

import ssl

import trio
from trio.abc import Stream

from adapters.asterisk.protocol import Framer, Message, action_ids, encode_action
from adapters.asterisk.settings import AsteriskSettings
from adapters.asterisk.versions import check_version
from adapters.base import Link
from adapters.http import tls_context
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    Doubtful,
    RemoteProtocolError,
    Unavailable,
)

READ_SIZE = 16 * 1024
TRUSTED_S = 2.0
"""A connection that answered so lately is used without a test."""
KEPT_S = 300.0

NO_MANAGER = "asterisk_no_manager"
"""The code of all that is wrong before the other end has called itself an Asterisk manager."""


def no_manager(settings: AsteriskSettings, why: str) -> Unavailable:
    """The error for an address where no Asterisk manager answers; `why` is for the log alone."""
    where = f"{settings.host}:{settings.port}"
    return Unavailable(f"{where}: {why}", code=NO_MANAGER, shown=where)


async def open_stream(link: Link, settings: AsteriskSettings) -> Stream:
    """A connection to the manager, encrypted where the settings require it. Raises Unavailable or BadSettings."""
    try:
        with trio.fail_after(settings.connect_timeout_s):
            address = await link.dial.resolve(settings.host, settings.port)
            plain = await trio.open_tcp_stream(address, settings.port)
            if not settings.tls:
                return plain
            context = await trio.to_thread.run_sync(tls_context)
            try:
                return await _encrypted(plain, context, settings)
            except trio.BrokenResourceError as error:
                cause = error.__cause__
                if not isinstance(cause, ssl.SSLCertVerificationError) or not await _is_manager(address, settings):
                    raise
                where = f"{settings.host}:{settings.port}"
                raise BadSettings(
                    f"{where}: the certificate is not valid: {cause.verify_message}",
                    code="asterisk_certificate",
                    shown=cause.verify_message,
                ) from None
    except trio.TooSlowError:
        raise no_manager(settings, f"no answer within {settings.connect_timeout_s:g} s") from None
    except trio.BrokenResourceError:
        raise no_manager(settings, "no encrypted connection there") from None
    except OSError as error:
        raise no_manager(settings, error.strerror or "no connection") from None


async def _encrypted(plain: Stream, context: ssl.SSLContext, settings: AsteriskSettings) -> Stream:
    stream = trio.SSLStream(plain, context, server_hostname=settings.host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(plain)
        raise
    return stream


async def _is_manager(address: str, settings: AsteriskSettings) -> bool:
    """Whether the server whose certificate is not valid is an Asterisk manager at all: only then may people be shown the
    certificate. Reads its first line and sends nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    framer = Framer(frozenset())
    try:
        stream = await _encrypted(await trio.open_tcp_stream(address, settings.port), context, settings)
        try:
            while framer.banner is None and (data := await stream.receive_some(READ_SIZE)):
                framer.feed(bytes(data))
        finally:
            await trio.aclose_forcefully(stream)
    except (OSError, trio.BrokenResourceError, RemoteProtocolError):
        return False
    return framer.banner is not None


class ActionLine:
    """Does actions, one after the other. Opens nothing before the first; `aclose` when nobody needs it any more."""

    def __init__(self, link: Link, settings: AsteriskSettings) -> None:
        self._link = link
        self._settings = settings
        self._ids = action_ids("gwa")
        self._lock = trio.Lock()
        self._stream: Stream | None = None
        self._framer = Framer(frozenset())
        self._answered_at = 0.0
        self._closed = False

    async def ask(self, action: str, *headers: tuple[str, str], action_id: str | None = None) -> Message:
        """The answer to one action. Raises Unavailable or NeedsAttention when nothing was sent, and Doubtful when it was
        and no answer came: it may have been done. The deadline is the settings' login timeout."""
        async with self._lock:
            await self._ready()
            try:
                with trio.fail_after(self._settings.login_timeout_s):
                    return await self._exchange(action, headers, action_id)
            except trio.TooSlowError:
                await self._drop()
                raise Doubtful(f"{self._settings.host} did not answer {action}") from None
            except (Unavailable, RemoteProtocolError) as error:
                await self._drop()
                raise Doubtful(f"the answer to {action} was lost: {error.detail}") from None
            except BaseException:
                await self._drop()  # the next answer could belong to any action
                raise

    async def aclose(self) -> None:
        """Closes the connection for good. Orders for this PBX that are still waiting fail as not sent."""
        self._closed = True
        await self._drop()

    async def _ready(self) -> None:
        """A connection that is logged in and was seen alive just now."""
        idle = trio.current_time() - self._answered_at
        if self._stream is not None and idle > KEPT_S:
            await self._drop()
        if self._stream is not None and idle > TRUSTED_S:
            try:
                with trio.fail_after(self._settings.login_timeout_s):
                    await self._exchange("Ping", (), None)
            except (trio.TooSlowError, Unavailable, RemoteProtocolError):
                await self._drop()
            except BaseException:
                await self._drop()
                raise
        if self._closed:
            raise Unavailable("the settings of the PBX have just been changed")
        if self._stream is None:
            await self._log_in()

    async def _log_in(self) -> None:
        settings = self._settings
        self._framer = Framer(frozenset())
        self._stream = await open_stream(self._link, settings)
        try:
            with trio.fail_after(settings.login_timeout_s):
                await self._read_banner()
                check_version(self._framer.banner or "")
                answer = await self._exchange(
                    "Login",
                    (("Username", settings.username), ("Secret", settings.secret.reveal()), ("Events", "off")),
                    None,
                )
        except trio.TooSlowError:
            named = self._framer.banner is not None
            await self._drop()
            if not named:
                raise no_manager(settings, "it sends nothing") from None
            raise Unavailable(f"{settings.host} did not answer the login") from None
        except BaseException:
            await self._drop()
            raise
        if answer.get("Response") != "Success":
            await self._drop()
            raise BadCredentials(f"{settings.host} refused the login of {settings.username}")

    async def _read_banner(self) -> None:
        assert self._stream is not None
        try:
            while self._framer.banner is None:
                received = await self._stream.receive_some(READ_SIZE)
                if not received:
                    raise no_manager(self._settings, "it closed the connection")
                self._framer.feed(bytes(received))
        except RemoteProtocolError as error:
            raise no_manager(self._settings, error.detail) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise no_manager(self._settings, "the connection broke") from None

    async def _exchange(self, action: str, headers: tuple[tuple[str, str], ...], action_id: str | None) -> Message:
        assert self._stream is not None
        action_id = action_id or next(self._ids)
        data = encode_action(action, (("ActionID", action_id), *headers))
        try:
            await self._stream.send_all(data)
            while True:
                received = await self._stream.receive_some(READ_SIZE)
                if not received:
                    raise Unavailable("the PBX closed the connection")
                for message in self._framer.feed(bytes(received)):
                    if message.get("ActionID") == action_id and "Response" in message:
                        self._answered_at = trio.current_time()
                        return message
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unavailable("the connection broke") from None

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)
