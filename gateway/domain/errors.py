"""Errors, ordered by the reaction they need and not by their cause.

    Retryable       try again with backoff        Unavailable, RateLimited
    Permanent       stop this delivery            Rejected, TooLarge, Expired, Doubtful
    NeedsAttention  stop this integration         BadCredentials, BadSettings
    ProtocolError   drop the session, reconnect   LocalProtocolError, RemoteProtocolError

Anything else is a bug and travels to the supervisor. A class docstring is the default message for people; `detail`
is for the log. Secrets belong in neither. Each class has one of CODES, by which logs, programs and pages name what went wrong.
"""

from typing import Any, ClassVar

CODES = frozenset(
    {"VALIDATION_ERROR", "AUTH_FAILED", "NOT_FOUND", "CONFLICT", "RATE_LIMITED", "FORBIDDEN", "CONNECTION_FAILED",
     "EXTERNAL_SERVICE_ERROR", "CONFIG_INVALID", "PAYLOAD_TOO_LARGE", "UNAVAILABLE"}
)  # fmt: skip
"""Every code of a problem."""


class GatewayError(Exception):
    """Something went wrong."""

    problem_code: ClassVar[str] = "UNAVAILABLE"
    """Of CODES."""

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

    problem_code = "CONNECTION_FAILED"


class Replaced(Retryable):
    """Another instance may serve the tenant by now: nothing was sent."""

    problem_code = "UNAVAILABLE"


class RateLimited(Retryable):
    """The other side requests us to slow down. Does not use up an attempt."""

    problem_code = "RATE_LIMITED"
    bucket: str = ""
    """Whose rate is used up, such as one recipient's; empty: the account's."""

    def of(self, bucket: str) -> "RateLimited":
        """This error, of one bucket."""
        self.bucket = bucket
        return self


class Permanent(GatewayError):
    """This cannot succeed, however often it is tried."""

    problem_code = "EXTERNAL_SERVICE_ERROR"


class Rejected(Permanent):
    """The other side refused the request."""


class TooLarge(Rejected):
    """The file is too large."""

    problem_code = "PAYLOAD_TOO_LARGE"


class Expired(Permanent):
    """It came too late to be of use."""

    problem_code = "UNAVAILABLE"


class Doubtful(Permanent):
    """It may have arrived; a repeat would be seen twice, so it is not repeated."""

    problem_code = "CONNECTION_FAILED"


class NeedsAttention(GatewayError):
    """A person has to change something before this integration can work again."""

    problem_code = "CONFIG_INVALID"


class BadCredentials(NeedsAttention):
    """The other side refused the key or password. Enter a valid one in the integration's settings."""

    problem_code = "AUTH_FAILED"


class BadSettings(NeedsAttention):
    """The settings do not fit the other side. Correct them in the integration's settings."""


class ProtocolError(GatewayError):
    """The conversation broke; the session is opened anew."""

    problem_code = "EXTERNAL_SERVICE_ERROR"


class LocalProtocolError(ProtocolError):
    """We were about to send something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something the protocol does not allow."""


def as_problem(error: GatewayError) -> dict[str, Any]:
    """`{code, message, details?, retryable, retry_after?}`: the same wherever an error leaves us. `retry_after` in seconds."""
    problem: dict[str, Any] = {
        "code": error.problem_code, "message": error.person, "retryable": isinstance(error, Retryable | ProtocolError),
    }  # fmt: skip
    if error.shown and error.shown != error.person:
        problem["details"] = error.shown
    if isinstance(error, Retryable) and error.after_s is not None:
        problem["retry_after"] = error.after_s
    return problem


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


def log_code_of(status: str) -> str | None:
    """The code of a row of an integration's log of which only its outcome is known; None where nothing failed."""
    return _LOG_CODES.get(status)


def exported_status(status: str) -> str:
    """`success` or `error`: how an outcome of the log is told to programs; the finer outcome stands beside it."""
    return "success" if status in ("done", "received") else "error"


_LOG_CODES = {
    "retry": "CONNECTION_FAILED", "attention": "CONFIG_INVALID", "rate_limited": "RATE_LIMITED", "bug": "UNAVAILABLE",
    "failed": "EXTERNAL_SERVICE_ERROR", "doubtful": "CONNECTION_FAILED", "expired": "UNAVAILABLE",
}  # fmt: skip
_LOG_STATUSES = {
    "": "done", "bad_credentials": "attention", "bad_settings": "attention", "rate_limited": "rate_limited",
    "rejected": "failed", "bug": "bug",
}  # fmt: skip
