"""Logging in to an outside system as data: OAuth, a code that a person types, a QR code, a pasted token are all steps.

    begin --> fields | code | qr | wait | redirect | choice --> ... --> LoginDone: settings to store, tokens to store

A step is drawn by one template; the adapter writes no page. What a flow needs in order to go on stands in the step's `state`,
which is stored sealed, so a restart or another instance goes on where it was. Each step has an id and each login a
transaction: a step that is submitted again, by a second click or a repeated redirect, is not done again. Read
`gateway/web/pages/login_steps.py` next.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from adapters.tokens import FreshToken

if TYPE_CHECKING:
    from adapters.base import AdapterSettings, Link

StepKind = Literal["fields", "code", "qr", "wait", "redirect", "choice"]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginStep:
    """What a person has to do next. Texts by language; an empty one is left out."""

    id: str
    """Names the step within its flow; its form is `Login.forms[id]`."""
    kind: StepKind
    title: Mapping[str, str]
    text: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    problem: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """Why the step is there again, such as a code that was wrong."""
    qr: str = ""
    """The text of the QR code."""
    options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """Of a `choice`: values with what people read, the same in every language. The chosen one comes back as `choice`."""
    url: str = ""
    """Where the person is sent; https, or http to a provider that the operator replaced."""
    again_s: float = 3.0
    """How soon a `wait` or a `qr` is looked at again."""
    state: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    """What the flow needs in order to go on, as JSON. May hold secrets; nobody sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginDone:
    """The login is over: what is to be stored, in one transaction with the end of the login."""

    settings: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    """Fields of the integration's settings to change."""
    tokens: Mapping[str, FreshToken] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class LoginPlace:
    """Where a redirect comes back to, and the state that it brings along."""

    redirect_uri: str
    state: str = field(repr=False)


class LoginFlow(Protocol):
    """One login. Raises what `gateway.domain.errors` lists; Permanent and NeedsAttention end it with their words."""

    async def begin(self) -> LoginStep | LoginDone:
        """The first step."""
        ...

    async def go_on(self, step: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> LoginStep | LoginDone:
        """What follows: `values` are those of the step's form, the query that a redirect brought, or nothing for a step that
        waits. The same step may be returned again, with a problem or while it waits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How an adapter's integrations log in."""

    open: "Callable[[Link, Any, LoginPlace], AbstractAsyncContextManager[LoginFlow]]"
    """`open(link, settings, place)`: opens nothing before first use."""
    forms: "Mapping[str, type[AdapterSettings]]" = field(default_factory=lambda: _EMPTY)
    """The form of each step of kind `fields` or `code`."""
