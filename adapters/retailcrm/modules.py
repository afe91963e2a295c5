"""Our module in RetailCRM, its users and who is responsible for a client: builds requests, reads answers. Pure.

Owns the shape of `integration-modules/{code}/edit`: telephony stands below `integrations`, and the map of codes goes
whole every time, because leaving it out clears it. Answers are judged by `codec.read_answer`. The API cannot delete a
module: deleted means switched off and frozen. Read `client.py` next for how requests are sent.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from adapters.abilities import CrmUser, HeldExtensions, Registration, RegistrationPlace, Responsible, UserStatus
from adapters.retailcrm.codec import read_answer
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.errors import Rejected

MAKE_CALL, STATUS, REDIRECT, ACTIVITY = (
    "/retailcrm/make-call", "/retailcrm/status", "/retailcrm/api/smart-redirect", "/retailcrm/activity",
)  # fmt: skip
"""What RetailCRM, and the dialplan in its name, call on our side."""

STATUSES = (
    UserStatus("free", "free", {"en": "Free", "ru": "Свободен"}),
    UserStatus("busy", "busy", {"en": "Busy", "ru": "Занят"}),
    UserStatus("dinner", "away", {"en": "At dinner", "ru": "На обеде"}),
    UserStatus("break", "away", {"en": "On a break", "ru": "Перерыв"}),
)
"""What a user can be."""
STATUS_WORDS = tuple(status.word for status in STATUSES)

INTEGRATION = "telephony-gateway"
NAME = "Telephony gateway"
PAGE = 100
MOST_PAGES = 100
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)


# The module ----------------------------------------------------------------------------------------------------------


def module_code(settings: RetailcrmSettings) -> str:
    """What RetailCRM knows this connection by. Made from the client id, so that it stays the same for as long as the
    connection does, also on another installation, and reveals nothing of the id."""
    if settings.module_code:
        return settings.module_code
    digest = hashlib.sha256(b"module " + settings.client_id.reveal().encode()).hexdigest()
    return f"gateway-{digest[:12]}"


def module_path(settings: RetailcrmSettings) -> str:
    """Where the module is read."""
    return f"/api/v5/integration-modules/{module_code(settings)}"


def edit_path(settings: RetailcrmSettings) -> str:
    """Where it is made or changed."""
    return f"{module_path(settings)}/edit"


def edit_form(
    settings: RetailcrmSettings,
    place: RegistrationPlace,
    extensions: Mapping[str, str],
    *,
    active: bool,
    freeze: bool = False,
) -> dict[str, str]:
    """The whole module as a form."""
    module = {
        "code": module_code(settings),
        "integrationCode": INTEGRATION,
        "name": NAME,
        "active": active,
        "freeze": freeze,
        "logo": place.logo_url,
        "clientId": settings.client_id.reveal(),
        "baseUrl": place.public_url,
        "accountUrl": place.account_url.reveal(),
        "actions": {"activity": ACTIVITY},
        "integrations": {
            "telephony": {
                "makeCallUrl": place.public_url + MAKE_CALL,
                "changeUserStatusUrl": place.public_url + STATUS,
                "allowEdit": False,
                "inputEventSupported": True,
                "outputEventSupported": True,
                "hangupEventSupported": True,
                "additionalCodes": [
                    {"userId": int(user), "code": number}
                    for user, number in sorted(extensions.items(), key=lambda item: int(item[0]))
                ],
                **({"externalPhones": _external_phones(settings)} if settings.external_phones else {}),
            }
        },
    }
    return {"integrationModule": json.dumps(module, ensure_ascii=False, separators=(",", ":"))}


def _external_phones(settings: RetailcrmSettings) -> list[dict[str, str]]:
    return [{"siteCode": shop, "externalPhone": number} for number, shop in sorted(settings.external_phones.items())]


def read_edited(status: int, text: str, extensions: Mapping[str, str]) -> HeldExtensions:
    """The answer to an edit. `info` is an object, or an empty list when there is nothing to report."""
    info = read_answer(status, text).get("info")
    missing = _list(info.get("notExistUsersIds")) if isinstance(info, Mapping) else []
    unknown = tuple(user for item in missing if (user := _id(item)))
    held = {user: number for user, number in extensions.items() if user not in unknown}
    return HeldExtensions(extensions=held, unknown_users=unknown)


def read_module(status: int, text: str) -> Registration | None:
    """The module as RetailCRM holds it; None where it holds none."""
    try:
        answer = read_answer(status, text)
    except Rejected as error:
        if status == 404 and "method" not in error.detail.lower():
            return None
        raise
    module = _mapping(answer.get("integrationModule"))
    telephony = _mapping(_mapping(module.get("integrations")).get("telephony"))
    extensions: dict[str, str] = {}
    for item in _list(telephony.get("additionalCodes")):
        user, code = _id(_mapping(item).get("userId")), _text(_mapping(item).get("code"))
        if user and code:
            extensions[user] = code
    active = module.get("active") is not False and module.get("freeze") is not True
    return Registration(active=active, held=HeldExtensions(extensions=extensions))


# Users ---------------------------------------------------------------------------------------------------------------


def users_path(page: int) -> str:
    """One page of all users."""
    return f"/api/v5/users?{urlencode({'limit': PAGE, 'page': page})}"


@dataclass(frozen=True, slots=True)
class UsersPage:
    """Some users, and whether there are more."""

    users: tuple[CrmUser, ...]
    last: bool


def read_users(status: int, text: str, page: int) -> UsersPage:
    """One page of the list. A user without an id that makes sense is left out."""
    answer = read_answer(status, text)
    rows = _list(answer.get("users"))
    pages = _mapping(answer.get("pagination")).get("totalPageCount")
    total = pages if isinstance(pages, int) else 1
    return UsersPage(tuple(_users(rows)), last=page >= min(total, MOST_PAGES) or not rows)


def _users(rows: list[Any]) -> Iterator[CrmUser]:
    for row in rows:
        user = _mapping(row)
        if not (user_id := _id(user.get("id"))):
            continue
        status = _text(user.get("status"))
        email = _text(user.get("email"))
        yield CrmUser(
            user_id=user_id,
            name=_name(user) or email or user_id,
            email=email,
            groups=tuple(name for group in _list(user.get("groups")) if (name := _group(group))),
            active=user.get("active") is not False,
            status=status if status in STATUS_WORDS else "",
        )


def _group(group: Any) -> str:
    """A group's name, however much of the group was sent."""
    if isinstance(group, Mapping):
        return _text(group.get("name")) or _text(group.get("code"))
    return _text(group)


def user_id(text: str) -> str:
    """An id as RetailCRM counts its users: digits, without leading zeros. Raises ValueError for anything else."""
    if not (found := _id(text)):
        raise ValueError("is a number")
    return found


def status_path(user_id: str) -> str:
    """Where a user's status is changed. Raises Rejected for what is no id."""
    if not _ID.fullmatch(user_id):
        raise Rejected("not the id of a user")
    return f"/api/v5/users/{user_id}/status"


# Who is responsible --------------------------------------------------------------------------------------------------


def manager_path(phone: str, *, any_status: bool) -> str:
    """The request for who is responsible for a number."""
    requested = {"phone": phone.removeprefix("+"), "details": 1, "ignoreStatus": int(any_status)}
    return f"/api/v5/telephony/manager?{urlencode(requested)}"


def read_responsible(status: int, text: str) -> Responsible | None:
    """Who it is. Every block of the answer may be missing or null."""
    manager = _mapping(read_answer(status, text).get("manager"))
    user_id = _id(manager.get("id")) or None
    extension = _text(manager.get("code"))
    if not user_id and not extension:
        return None
    return Responsible(extension=extension or None, user_id=user_id, name=_name(manager))


# What may be anything ------------------------------------------------------------------------------------------------


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # PHP writes a list with holes as an object
        return list(value.values())
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return "".join(c for c in str(value).strip()[:200] if c.isprintable())


def _id(value: Any) -> str:
    """An id as text without leading zeros: RetailCRM writes it as a number here and as text there."""
    text = _text(value)
    return str(int(text)) if _ID.fullmatch(text) else ""


def _name(person: Mapping[str, Any]) -> str:
    return " ".join(part for field in ("firstName", "lastName") if (part := _text(person.get(field))))
