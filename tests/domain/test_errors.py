"""One list of codes for every error, wherever it leaves us."""

from collections.abc import Iterator

import pytest

from gateway.domain.errors import (
    CODES,
    BadCredentials,
    GatewayError,
    RateLimited,
    Rejected,
    Unavailable,
    as_problem,
    exported_status,
    log_code_of,
)
from gateway.store.files.recording_files import TooLarge
from gateway.store.postgres.errors import Conflict


def every_class(of: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield of
    for one in of.__subclasses__():
        yield from every_class(one)


def test_every_error_has_a_code_of_the_list() -> None:
    assert {one.problem_code for one in every_class()} <= CODES
    assert Conflict.problem_code == "CONFLICT"
    assert TooLarge.problem_code == "PAYLOAD_TOO_LARGE"


def test_an_error_as_programs_get_it() -> None:
    assert as_problem(RateLimited("slow down", after_s=3)) == {
        "code": "RATE_LIMITED", "message": RateLimited.__doc__, "retryable": True, "details": "slow down", "retry_after": 3,
    }  # fmt: skip
    assert as_problem(Unavailable(person="Away.")) == {
        "code": "CONNECTION_FAILED",
        "message": "Away.",
        "retryable": True,
    }
    assert as_problem(Rejected("no", shown=""))["code"] == "EXTERNAL_SERVICE_ERROR"
    assert as_problem(BadCredentials())["retryable"] is False


@pytest.mark.parametrize(
    ("status", "shown", "code"),
    [
        ("done", "success", None), ("received", "success", None), ("retry", "error", "CONNECTION_FAILED"),
        ("attention", "error", "CONFIG_INVALID"), ("failed", "error", "EXTERNAL_SERVICE_ERROR"), ("expired", "error", "UNAVAILABLE"),
        ("rate_limited", "error", "RATE_LIMITED"), ("doubtful", "error", "CONNECTION_FAILED"),
    ],
)  # fmt: skip
def test_outcomes_of_the_log(status: str, shown: str, code: str | None) -> None:
    assert (exported_status(status), log_code_of(status)) == (shown, code)
