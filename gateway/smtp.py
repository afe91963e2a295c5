"""Sending mail by SMTP: one message to one address, in a thread, with a deadline; errors are sentences for a person.

    GATEWAY_SMTP_URL = smtp://USER:PASSWORD@HOST:587?from=gateway@example.com      STARTTLS, required unless HOST is loopback
                       smtps://USER:PASSWORD@HOST:465?from=…                       TLS from the first byte

Knows nothing of what is sent. Whoever needs it durable stores it first: `gateway/store/notices.py`.
"""

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit

import trio

from gateway.domain.errors import GatewayError, Rejected, Unavailable
from gateway.domain.secret import Secret, masked

CONNECT_S, WHOLE_S = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class SmtpPlace:
    """Where mail leaves."""

    host: str
    port: int
    tls: bool
    user: str
    password: Secret = field(repr=False)
    sender: str

    @property
    def loopback(self) -> bool:
        """A server on this machine may do without TLS."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def read_smtp_url(text: str) -> SmtpPlace:
    """Raises ValueError with what is wrong, which quotes nothing of a password."""
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("must be smtp://USER:PASSWORD@HOST:587?from=ADDRESS or smtps://…")
    sender = parse_qs(parts.query).get("from", [unquote(parts.username or "")])[0]
    if "@" not in sender or not sender.isprintable() or any(c in sender for c in " <>,;"):
        raise ValueError("must end in ?from= and the address that mail comes from")
    try:
        port = parts.port or (465 if parts.scheme == "smtps" else 587)
    except ValueError:
        raise ValueError("has a port that is no number") from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return SmtpPlace(parts.hostname, port, parts.scheme == "smtps", user, Secret(password), sender)


class Smtp:
    """One per process; `limiter` bounds the threads."""

    def __init__(self, place: SmtpPlace, limiter: trio.CapacityLimiter | None = None) -> None:
        self.place = place
        self._limiter = limiter or trio.CapacityLimiter(2)

    async def send(self, to: str, subject: str, text: str) -> None:
        """Raises Unavailable, which may be tried again, and Rejected, which may not."""
        message = EmailMessage()
        message["From"], message["To"] = self.place.sender, _header(to)
        message["Subject"] = _header(subject)
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self.place.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        await self._in_thread(message)

    async def test(self) -> None:
        """Connects and signs in, and sends nothing. Raises as `send`."""
        await self._in_thread(None)

    async def _in_thread(self, message: EmailMessage | None) -> None:
        failure: GatewayError | None = Unavailable(f"{self.place.host} does not answer in time", certain=False)
        with trio.move_on_after(WHOLE_S):
            failure = await trio.to_thread.run_sync(self._work, message, limiter=self._limiter, abandon_on_cancel=True)
        if failure is not None:
            raise failure

    def _work(self, message: EmailMessage | None) -> GatewayError | None:
        place = self.place
        where = f"{place.host}:{place.port}"
        try:
            context = ssl.create_default_context()
            if place.tls:
                server: smtplib.SMTP = smtplib.SMTP_SSL(place.host, place.port, timeout=CONNECT_S, context=context)
            else:
                server = smtplib.SMTP(place.host, place.port, timeout=CONNECT_S)
            with server:
                server.ehlo()
                if not place.tls and server.has_extn("starttls"):
                    server.starttls(context=context)
                    server.ehlo()
                elif not place.tls and not place.loopback:
                    return Rejected(f"{where} offers no STARTTLS: use smtps://")
                if place.user and place.password:
                    server.login(place.user, place.password.reveal())
                if message is not None:
                    server.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            return Rejected(f"{where} refuses the user or password ({self._said(error.smtp_error)})")
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            return self._by_code(code, f"{where} refuses the recipient ({code} {self._said(said)})")
        except smtplib.SMTPResponseException as error:
            return self._by_code(error.smtp_code, f"{where}: {error.smtp_code} {self._said(error.smtp_error)}")
        except smtplib.SMTPNotSupportedError as error:
            return Rejected(f"{where}: {error}")
        except smtplib.SMTPException as error:
            return Unavailable(f"{where}: {self._said(str(error))}")
        except ssl.SSLError as error:
            return Unavailable(f"{where}: TLS: {error.reason or type(error).__name__}")
        except OSError as error:
            return Unavailable(f"{where} does not answer: {error.strerror or type(error).__name__}")
        return None

    @staticmethod
    def _by_code(code: int, text: str) -> GatewayError:
        return Unavailable(text) if 400 <= code < 500 else Rejected(text)

    def _said(self, text: bytes | str) -> str:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return masked(" ".join(plain.split())[:200], self.place.password)


def _header(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
