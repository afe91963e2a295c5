"""What Meta's messengers have in common: the handshake and the signature of webhooks, what the Graph API's answers come to, and
the check of a token. No messenger by name.

A webhook is signed over its raw bytes, as they were sent (non-ASCII letters escaped): it is checked before anything is decoded.
Errors are told apart by `code` and `error_subcode`; titles and HTTP statuses are not stable. Sources: Meta, "Webhooks, Getting started",
"Graph API, Handle errors", "Debug token". Read an adapter's `incoming.py` and `codec.py` next.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from adapters.apps import AppCredentials, MetaApp
from adapters.base import BadValue
from adapters.http import Answer, Http
from adapters.inbound import Reply, WebhookCall
from adapters.jobs import JobResult
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    RateLimited,
    Rejected,
    Unavailable,
)
from gateway.domain.secret import Secret

GRAPH = "https://graph.facebook.com"
VERSION = "v23.0"
"""Of the Graph API, a part of every path. Meta serves a version for two years, and the oldest one in the place of those before."""
WARN_BEFORE = timedelta(days=10)
"""How long before a token ends people are warned, or it is renewed."""
ACCOUNT_PAUSE_S = 30.0
"""After a limit of the account or of the application, where the answer names no time."""
_SIGNED_BY = "x-hub-signature-256"


# Settings --------------------------------------------------------------------------------------------------------------


def _visible(value: Secret) -> Secret:
    if not re.fullmatch(r"[!-~]{0,2000}", value.reveal()):
        raise BadValue(
            "it has a space, a line break or a letter that cannot be in it: copy it anew, as Meta shows it",
            "здесь есть пробел, перевод строки или буква, которых быть не может: скопируйте заново, как показывает Meta",
        )
    return value


def _present(value: Secret) -> Secret:
    if not value:
        raise BadValue("must not be empty", "здесь пусто")
    return _visible(value)


def _account(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,30}", value):
        raise BadValue(
            "the id is made of digits alone, as Meta shows it",
            "идентификатор состоит только из цифр, как показывает Meta",
        )
    return value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


MetaSecret = Annotated[Secret, AfterValidator(_visible)]
"""A credential; it may be empty."""
MetaToken = Annotated[Secret, AfterValidator(_present)]
AccountId = Annotated[str, BeforeValidator(_text), AfterValidator(_account)]
"""The id of an account, a page or a number; in a file the digits may stand without quotes."""


def missing(verify_token: Secret, app_secret: Secret, app: AppCredentials | None) -> str:
    """What is not entered yet of what webhooks need, as a code; the installation's application has both. An unsigned webhook cannot be
    told from a forged one."""
    if isinstance(app, MetaApp):
        return ""
    return "no_app_secret" if not app_secret else "no_verify_token" if not verify_token else ""


# Webhooks --------------------------------------------------------------------------------------------------------------


def verify(call: WebhookCall, verify_token: Secret, app_secret: Secret) -> Reply | None:
    """The handshake's answer to a GET; None for a POST that is signed with the application's secret, else 403."""
    if call.method == "GET":
        return _handshake(call, verify_token)
    if call.method != "POST":
        return Reply(405)
    if not app_secret:
        return Reply(403)
    digest = hmac.new(app_secret.reveal().encode(), call.body, hashlib.sha256).hexdigest()
    sent = call.headers.get(_SIGNED_BY, "")
    genuine = hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), f"sha256={digest}".encode())
    return None if genuine else Reply(403)


def verify_app(call: WebhookCall, app: Any) -> Reply | None:
    """The same by the installation's application."""
    return verify(call, app.verify_token, app.app_secret) if isinstance(app, MetaApp) else Reply(403)


def _handshake(call: WebhookCall, verify_token: Secret) -> Reply:
    sent, challenge = Secret(call.query.get("hub.verify_token", "")), call.query.get("hub.challenge", "")
    right = bool(verify_token) and sent == verify_token
    if not right or call.query.get("hub.mode") != "subscribe" or not re.fullmatch(r"[!-~]{1,256}", challenge):
        return Reply(403)
    return Reply(200, challenge.encode())


def entries(body: bytes, of: str) -> Sequence[Mapping[str, Any]]:
    """The entries of a webhook about objects `of` a kind. Raises ValueError for a body that is none."""
    try:
        sent = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(sent, dict) or sent.get("object") != of:
        raise ValueError(f"not a webhook about {of}")
    return objects(sent.get("entry"))


def objects(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects of a list; everything else is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def child(value: Any, *names: str) -> Any:
    """What stands at the end of a path of names; None where it breaks off."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def string(value: Any) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def moment(value: Any, per_second: int = 1) -> datetime:
    """A time of an update, in seconds or parts of them, as a number or in digits. Raises ValueError."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < per_second << 38:
        raise ValueError("an update without a time")
    return datetime.fromtimestamp(value / per_second, UTC)


def digest_of(item: Mapping[str, Any]) -> str:
    """Stands for the id of an update that has none."""
    return "digest:" + hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:40]


# Answers ---------------------------------------------------------------------------------------------------------------


class Unclear(Exception):
    """An answer that is none of the Graph API's: whether the request was carried out is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphError:
    """`error` of an answer. `detail` is the code with Meta's own words."""

    code: int
    subcode: int
    detail: str
    status: int
    transient: bool
    after_s: float | None


Judge = Callable[[GraphError], GatewayError | None]
"""What a messenger's own codes come to; None for those that all of Meta's have."""


def read_answer(answer: Answer, judge: Judge = lambda error: None) -> Mapping[str, Any]:
    """The object of a good answer. Raises ours for an error, which a status of 200 may have too; Unclear for what is no answer."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        found = None
    after_s = _seconds(answer.headers.get("retry-after"))
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        error = error_of(found["error"], answer.status, after_s)
        raise judge(error) or common(error)
    if answer.status == 429:
        raise RateLimited(f"status {answer.status}", after_s=after_s)
    if answer.status >= 500:
        raise Unavailable(f"status {answer.status} without an answer of the Graph API", after_s=after_s)
    if answer.status == 401:
        raise BadCredentials(f"status {answer.status}")
    if answer.status >= 400:
        raise Rejected(f"status {answer.status} without an answer of the Graph API")
    if not isinstance(found, dict):
        raise Unclear(f"status {answer.status} without an answer of the Graph API")
    return found


def error_of(error: Mapping[str, Any], status: int = 0, after_s: float | None = None) -> GraphError:
    """An error of an answer or of a webhook."""
    code = _number(error.get("code"))
    said = string(child(error, "error_data", "details")) or string(error.get("message")) or string(error.get("title"))
    return GraphError(
        code=code, subcode=_number(error.get("error_subcode")), detail=f"{code}: {said}"[:400], status=status,
        transient=error.get("is_transient") is True, after_s=after_s,
    )  # fmt: skip


def common(error: GraphError) -> GatewayError:
    """What a code that all of Meta's systems have comes to."""
    code, detail = error.code, error.detail
    if code in (102, 190):
        return BadCredentials(detail)
    if code in (3, 10, 368) or 200 <= code <= 299:
        return BadSettings(detail, person=f"Meta: {detail}")
    if code in (4, 17, 32, 613) or 80000 <= code <= 80014:
        return RateLimited(detail, after_s=error.after_s or ACCOUNT_PAUSE_S)
    if code in (1, 2) or error.transient or error.status >= 500:
        return Unavailable(detail, after_s=error.after_s)
    return Rejected(detail)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch("[0-9]{1,6}", value) else None


# Tokens ----------------------------------------------------------------------------------------------------------------


def bearer(token: Secret) -> dict[str, str]:
    """The header that a request is let in by."""
    return {"authorization": f"Bearer {token.reveal()}"}


async def check_token(http: Http, token: Secret, app: AppCredentials | None, now: datetime) -> JobResult | None:
    """Asks Meta when a token ends: a problem `token_ends` from WARN_BEFORE on. None where it lasts, or where Meta does not tell: the
    token's own application alone is told. Raises BadCredentials for one that has ended, and Unavailable."""
    asks = Secret(f"{app.app_id}|{app.app_secret.reveal()}") if isinstance(app, MetaApp) else token
    try:
        found = await http.exchange(
            "GET", f"/{VERSION}/debug_token?input_token={token.reveal()}", headers=bearer(asks), read=read_answer
        )
    except (Rejected, BadSettings, Unclear):
        return None
    data = child(found, "data")
    if child(data, "is_valid") is False:
        raise BadCredentials(error_of(child(data, "error") or {"message": "the token is not valid any more"}).detail)
    ends_at = child(data, "expires_at")
    if not isinstance(ends_at, int) or isinstance(ends_at, bool) or not 0 < ends_at < 1 << 38:
        return None  # 0: it does not end
    return ending(datetime.fromtimestamp(ends_at, UTC), now)


def ending(ends_at: datetime, now: datetime) -> JobResult | None:
    """The warning that a token ends soon."""
    if ends_at - now > WARN_BEFORE:
        return None
    return JobResult(problem="token_ends", detail=f"{ends_at:%Y-%m-%d %H:%M} UTC", after_s=3600.0)


def next_page(found: Mapping[str, Any]) -> str:
    """The cursor of the next page of a list; empty at its end."""
    after = string(child(found, "paging", "cursors", "after"))
    return after if child(found, "paging", "next") and re.fullmatch(r"[A-Za-z0-9_=-]{1,500}", after) else ""
