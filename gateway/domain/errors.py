"""Errors, ordered by the reaction they need and not by their cause.

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
        """A key of the UI's texts, more exact than the class; empty: the class alone."""
        self.shown = detail if shown is None else shown
        """What is shown to people beside the text of the code; it may be less than the log is given."""
        self.person = person if person is not None else (type(self).__doc__ or "").strip()
        super().__init__(detail or self.person)


class Retryable(GatewayError):
    """The other side cannot answer now; the request will be repeated."""

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
        """Seconds the other side requested us to wait, where it sent them."""
        self.certain = certain
        """False after a timeout with the request already sent: it may have arrived all the same."""


class Unavailable(Retryable):
    """The other side is not reachable or failed to answer."""


class Replaced(Retryable):
    """Another instance may serve the tenant by now: nothing was sent."""


class RateLimited(Retryable):
    """The other side requests us to slow down. Does not use up an attempt."""


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
    """We were about to send something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something the protocol does not allow."""


def problem_of(error: GatewayError) -> str:
    """The code under which the UI has words for it."""
    match error:
        case BadCredentials():
            return "bad_credentials"
        case NeedsAttention():
            return "bad_settings"
        case RateLimited():
            return "rate_limited"
        case Permanent():
            return "rejected"
        case _:
            return "unavailable"


REFUSED = frozenset({"rejected", "bad_credentials", "bad_settings"})
"""Problems that do not go away by sending the same again."""


def log_status_of(problem: str) -> str:
    """What stands in an integration's log for an exchange that came to this problem, or to none."""
    return _LOG_STATUSES.get(problem, "retry")


_LOG_STATUSES = {
    "": "done", "bad_credentials": "attention", "bad_settings": "attention", "rate_limited": "rate_limited",
    "rejected": "failed", "bug": "bug",
}  # fmt: skip
