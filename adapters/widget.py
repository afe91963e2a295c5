"""A chat of our own in a company's site, as an adapter offers it: how it looks, who may show it, and what visitors send. Pure.

    visitor's request --> an update (built here) --> journal --> `events` --> gateway.domain.chat_fold

The gateway serves the widget itself (`gateway/web/widget/`); there is no outside system. An address is `visitor:RANDOM`, or
`id:ID` for somebody whom the company's own site has identified.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters.inbound import Update
from gateway.domain.chats import (
    AddressChanged,
    ChatEvent,
    ClientWrote,
    ContactGiven,
    Person,
    PersonRequested,
    RemoteFile,
    StatusReached,
)
from gateway.domain.secret import Secret

ANONYMOUS, IDENTIFIED = "visitor:", "id:"
"""What addresses begin with."""
MOST_TEXT = 10_000
"""Characters of one message of a visitor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """One widget, as its settings have it."""

    key: str
    """Public: stands in the company's pages."""
    domains: tuple[str, ...]
    """Whose pages may show it: `shop.example`, `*.june.example`, `localhost:5000`."""
    title: str
    color: str
    ink: str
    """Black or white, whichever can be read on the colour."""
    greeting: str
    identity_required: bool
    identity_secret: Secret
    token_secret: Secret
    """Signs visitors' tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a visitor, or the company's site for them, says of who they are. Confirmed by nobody; empty is unknown."""

    name: str = ""
    email: str = ""
    phone: str = ""


def message(
    address: str, client_id: str, text: str, given: Given, language: str, at: datetime, files: Sequence[Mapping[str, Any]] = ()
) -> Update:  # fmt: skip
    """A visitor wrote. `client_id` is their browser's id of the message, the same when it is sent again. `files`: of each
    its id in the gateway (`file`), kind, name, content type and size."""
    body = _body(
        "message", address, at, client_id=client_id, text=text, language=language, files=list(map(dict, files))
    )
    body["given"] = {"name": given.name, "email": given.email, "phone": given.phone}
    return Update(f"message {client_id} {address}", body)


def read(address: str, seq: int, tokens: Sequence[str], at: datetime) -> Update:
    """A visitor saw messages of ours, up to the one with this number: the tokens of their parts."""
    return Update(f"read {seq} {address}", _body("read", address, at, tokens=list(tokens)))


def person(address: str, nonce: str, at: datetime) -> Update:
    """A visitor wants a person. `nonce` tells one request from the next."""
    return Update(f"person {nonce} {address}", _body("person", address, at))


def moved(address: str, new_address: str, at: datetime) -> Update:
    """A visitor who wrote without a name is identified."""
    return Update(f"moved {address} {new_address}", _body("moved", address, at, new_address=new_address))


def _body(kind: str, address: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "address": address, "at": at.isoformat(), **more}


def provider_id(client_id: str) -> str:
    """What a visitor's message is known by within its address; it is never equal to a token of ours."""
    return f"c:{client_id}"


def client_id_of(provider: str | None) -> str | None:
    """The inverse; None for anything else."""
    return provider[2:] if provider is not None and provider.startswith("c:") else None


def events(body: Mapping[str, Any], settings: Any) -> Sequence[ChatEvent]:
    """What one update holds. Raises ValueError for one that is none of ours."""
    try:
        address, at = str(body["address"]), datetime.fromisoformat(body["at"])
        match body["kind"]:
            case "message":
                given = Given(**body["given"])
                wrote = ClientWrote(
                    address=address, at=at, provider_id=provider_id(body["client_id"]), text=body["text"],
                    person=Person(name=given.name, language=body["language"]),
                    files=tuple(
                        RemoteFile(
                            kind=one["kind"], name=one["name"], content_type=one["content_type"], size=one["size"],
                            remote={"file": one["file"]},
                        )
                        for one in body["files"]
                    ),
                )  # fmt: skip
                if not given.email and not given.phone:
                    return (wrote,)
                return (wrote, ContactGiven(address=address, at=at, email=given.email, phone=given.phone))
            case "read":
                return tuple(
                    StatusReached(address=address, at=at, status="read", token=token, provider_id=token)
                    for token in body["tokens"]
                )
            case "person":
                return (PersonRequested(address=address, at=at),)
            case "moved":
                return (AddressChanged(address=address, at=at, new_address=body["new_address"]),)
    except (KeyError, TypeError) as error:
        raise ValueError(f"an update of a widget without what it needs: {type(error).__name__}") from None
    raise ValueError("an update of a widget of an unknown kind")
