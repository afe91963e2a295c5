"""Errors, ordered by the reaction they call for and not by their cause.

    Retryable       try again with backoff        Unavailable, RateLimited
    Permanent       stop this delivery            Rejected, Expired, Doubtful
    NeedsAttention  stop this integration         BadCredentials, BadSettings
    ProtocolError   drop the session, reconnect   LocalProtocolError, RemoteProtocolError

Anything else is a bug and travels to the supervisor. A class docstring is the default message for people; `detail`
is for the log. Secrets belong in neither.
"""


class GatewayError(Exception):
    """Something went wrong."""

    def __init__(
        self, detail: str = "", *, person: str | None = None, code: str = "", shown: str | None = None
    ) -> None:
        self.detail = detail
        self.code = code
        """A key of the UI's texts that says more than the class does; empty: the class alone."""
        self.shown = detail if shown is None else shown
        """What is shown to people beside the text of the code; it may be less than the log is given."""
        self.person = person if person is not None else (type(self).__doc__ or "").strip()
        super().__init__(detail or self.person)


class Retryable(GatewayError):
    """The other side cannot answer now; it will be asked again."""

    def __init__(
        self,
        detail: str = "",
        *,
        after_s: float | None = None,
        certain: bool = True,
        person: str | None = None,
        code: str = "",
        shown: str | None = None,
    ) -> None:
        super().__init__(detail, person=person, code=code, shown=shown)
        self.after_s = after_s
        """Seconds the other side asked us to wait, where it said so."""
        self.certain = certain
        """False after a timeout with the request already sent: it may have arrived all the same."""


class Unavailable(Retryable):
    """The other side is not reachable or failed to answer."""


class Replaced(Retryable):
    """Another instance may serve the tenant by now: nothing was sent."""


class RateLimited(Retryable):
    """The other side asks us to slow down. Does not use up an attempt."""


class Permanent(GatewayError):
    """This cannot succeed, however often it is tried."""


class Rejected(Permanent):
    """The other side refused the request."""


class Expired(Permanent):
    """It came too late to be of use."""


class Doubtful(Permanent):
    """It may have arrived; a repeat would be seen twice, so it is not repeated."""


class NeedsAttention(GatewayError):
    """A person has to change something before this integration can work again."""


class BadCredentials(NeedsAttention):
    """The other side refused the key or password. Enter a valid one in the integration's settings."""


class BadSettings(NeedsAttention):
    """The settings do not fit the other side. Correct them in the integration's settings."""


class ProtocolError(GatewayError):
    """The conversation broke; the session is opened anew."""


class LocalProtocolError(ProtocolError):
    """We were about to say something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side said something the protocol does not allow."""
