"""What every page shares: the dependencies, who is looking (`Viewer`), templates, static files, and the HTML answer.

`Viewer` is made once a request by `gateway/web/session/auth.py` and is all that a template knows of the request. This module
reads no database and holds no route. Read `gateway/web/session/auth.py` next.
"""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo

import trio
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from quart import g
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.wrappers import Response as WerkzeugResponse

from actors.chats.conversing import Conversing
from actors.crm.plans import CrmPlans
from actors.crm.registration import Registrations
from actors.deals.desk import DealDesk
from actors.feed import Feed
from actors.orders.ordering import Ordering
from actors.runtime.directory import Directory, Slot
from adapters.base import AdapterSettings, Tested
from adapters.folder import read_folder
from adapters.llm.client import ModelSettings
from adapters.login import LoginFlow, LoginPlace
from adapters.registry import Linked, adapters
from adapters.tokens import Tokens
from gateway.domain.ai import ModelBlock
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of, titled
from gateway.domain.internal_numbers import InternalNumberRules, wrong_with
from gateway.domain.people import Acting, Membership, Role
from gateway.domain.text import Bilingual
from gateway.store.call_orders import Admitted
from gateway.store.files.chat_files import ChatFiles
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.files.spool import Spool
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys, Sealer
from gateway.store.users import Session
from gateway.web import formats
from gateway.web.content.sandbox import Sandbox
from gateway.web.formats import Formats
from gateway.web.http.guesses import Guesses
from gateway.web.local_address import local_address_towards
from gateway.web.masking import without_texts
from gateway.web.navigation import grouped, menu
from gateway.web.session.access import ROLES, Need
from gateway.web.session.sign_in_audit import SignInAudit
from gateway.web.translations import Words, words

Answer = Response | WerkzeugResponse
"""What a handler returns: a page of ours, or a redirect."""


class Cache(Protocol):
    """The configuration in memory; both answer at once."""

    def sealer(self, number: TenantId) -> Sealer | None:
        """What seals and opens the tenant's own."""
        ...

    def tenant(self, number: TenantId) -> Tenant | None:
        """The tenant's snapshot, or None."""
        ...

    def tenants(self) -> Mapping[TenantId, Tenant]:
        """All of them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the admin UI needs from the rest of the gateway."""

    db: Database
    cache: Cache
    directory: Directory
    feed: Feed
    public_url: str
    secure_cookies: bool
    hash_limiter: trio.CapacityLimiter
    """Bounds password hashing: without it ten sign-ins would starve the AMI readers."""
    probe: Callable[..., Awaitable[Tested]]
    """`probe(tenant, connector, language=)` tests a PBX or an integration with the connector's settings, stored or not."""
    place: Callable[..., Awaitable[Admitted]]
    """`place(tenant, extension=, phone=, asked_by=)` places a call; raises CallRefused."""
    modules: Registrations
    """Our modules in outside systems."""
    login: Callable[[Tenant, Linked, AdapterSettings, LoginPlace], AbstractAsyncContextManager[LoginFlow]]
    """Opens a login of an integration's adapter."""
    tokens: Callable[[TenantId, IntegrationKey], Tokens]
    """The tokens of one integration that change by themselves."""
    conversing: Conversing | None = None
    """What people do to conversations."""
    ring: Callable[[TenantId, IntegrationKey], None] = lambda number, kind: None
    """Notifies an integration that it has something to deliver."""
    ring_posts: Callable[[TenantId], None] = lambda number: None
    """Notifies that posts of a tenant wait in the journal."""
    sign_ins: SignInAudit | None = None
    """Notes sign-ins for the audit trails; the caller runs its actor."""
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    guesses: Guesses = field(default_factory=Guesses)
    """Slows the guessing of machine credentials; one for both listeners."""
    largest_body: int = 256 * 1024
    """Bytes that the app takes in one request, whichever address it is for."""
    instance: Callable[[], str] = lambda: ""
    """The name of this instance among those on one database."""
    ask_slots: Callable[[str], Awaitable[Sequence[Slot]]] | None = None
    """`ask_slots(path)`: the actors at and below a path, whichever instance they live in; without it, those of this one."""
    mail: bool = False
    """Whether mail can be sent."""
    title: str = "Gateway"
    """The name of the installation, in the page's head."""
    master: MasterKeys | None = None
    """Seals what people enter into set-up forms; without it the forms are read-only."""
    local_address: Callable[[str, int], Awaitable[str | None]] = local_address_towards
    """The address from which we would connect to a host and port, for what is pasted on the other side."""
    recording_files: RecordingFiles | None = None
    """Recordings; without it there are none."""
    chat_files: ChatFiles | None = None
    """Files of chats; without it nobody's data are handed out or erased."""
    sandbox: Sandbox = field(default_factory=lambda: Sandbox(None))
    """Tries prompts on the installation's language model, where there is one."""
    models: Callable[[ModelBlock], ModelSettings] | None = None
    """The model that answers a company's clients; without it none can be tested."""
    deal_desk: DealDesk | None = None
    """Looks at both sides of a route of deals; without it none is tried."""
    spool: Spool | None = None
    """Where this instance puts posts while the database is away."""
    mounts: Sequence[Callable[[QuartTrio], None]] = ()
    """Functions that add further addresses to the app."""

    @property
    def ordering(self) -> Ordering:
        """What people do to orders."""
        return Ordering(db=self.db, feed=self.feed, crm=self.crm)

    @property
    def crm(self) -> CrmPlans:
        """What CRMs are sent beside calls."""
        return self.conversing.crm if self.conversing is not None else CrmPlans()

    async def slots(self, path: str = "") -> Sequence[Slot]:
        """The actors at and below a path, in order."""
        return self.directory.below(path) if self.ask_slots is None else await self.ask_slots(path)


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who is looking, and how they want to see it. Made anew for every request."""

    t: Words
    f: Formats
    csrf: str
    nonce: str
    path: str
    """The address of this page with its query, to come back to."""
    theme: str = "auto"
    session: Session | None = None
    tenant: Tenant | None = None

    @property
    def person(self) -> bool:
        """True for someone who has signed in; False for a module's session, which belongs to nobody."""
        return self.session is not None and self.session.scope is None

    @property
    def session_email(self) -> str:
        """Who acts: a person's address, or the integration whose link opened the session; empty without a session."""
        return self.session.email if self.session is not None else ""

    @property
    def home(self) -> str:
        """Where the pages of this session are; empty for a person, to whom all of them are open."""
        return (
            f"/{kind_of(self.session.scope)}-admin"
            if self.session is not None and self.session.scope is not None
            else ""
        )

    @property
    def operator(self) -> bool:
        """True for operators of the installation."""
        return self.person and self.session is not None and self.session.operator

    @property
    def acting(self) -> Acting | None:
        """The company that an operator acts as at present."""
        return self.session.acting if self.person and self.session is not None else None

    @property
    def role(self) -> Role | None:
        """What this person is in the company in view; of no company, an operator."""
        found = self._member(self.tenant.number if self.tenant is not None else None)
        return found.role if found is not None else None

    @property
    def may_read(self) -> bool:
        """Whether everything of the company in view is theirs to look at."""
        return self.role in (Role.ADMIN, Role.AUDITOR)

    @property
    def may_change(self) -> bool:
        """Whether they may change the company in view: pages show no form that would be refused."""
        return self.role is Role.ADMIN

    @property
    def only(self) -> tuple[str, ...] | None:
        """The internal numbers whose calls they see; None where they see all of the company."""
        found = self._member(self.tenant.number) if self.tenant is not None else None
        return found.phones if found is not None and found.role is Role.AGENT else None

    @property
    def phones(self) -> tuple[str, ...]:
        """Their own internal numbers in the company in view."""
        found = self._member(self.tenant.number) if self.tenant is not None else None
        return found.phones if found is not None else ()

    @property
    def choice_id(self) -> str:
        """By which a browser tells this person's choices from those of others who use it; says nothing of who they are."""
        return hashlib.sha256(f"choices\0{self.session_email}".encode()).hexdigest()[:16]

    @property
    def companies(self) -> tuple[Membership, ...]:
        """What they may go to without signing in again."""
        return self.session.memberships if self.person and self.session is not None else ()

    def may_see(self, number: str) -> bool:
        """Whether a tenant's pages are this person's to see."""
        return self._member(TenantId(number)) is not None

    def _member(self, tenant: TenantId | None) -> Membership | None:
        return self.session.membership(tenant) if self.person and self.session is not None else None


def viewer() -> Viewer:
    """Who made the request at hand."""
    return cast(Viewer, g.viewer)


def tenant() -> Tenant:
    """The tenant in view. Only below `/t/<number>/`, whose guard has set it."""
    found = viewer().tenant
    assert found is not None
    return found


def older_than(text: str) -> int | None:
    """The number of a row in an address, or None for what is none: `?before=` of a list."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


@dataclass(frozen=True)
class Asset:
    """A static file in memory."""

    content_type: str
    body: bytes
    version: str


def _assets() -> Mapping[str, Asset]:
    found = {}
    for entry in files("gateway.web").joinpath("static").iterdir():
        kind = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
        body = entry.read_bytes()
        charset = "; charset=utf-8" if kind.startswith("text/") else ""
        found[entry.name] = _asset(kind + charset, body)
    return MappingProxyType(found)


def _asset(content_type: str, body: bytes) -> Asset:
    return Asset(content_type, body, hashlib.sha256(body).hexdigest()[:12])


def _icons() -> Mapping[str, Asset]:
    """The drawings of the adapters by kind."""
    drawn = {kind: read_folder(adapter.package).icon for kind, adapter in adapters().items()}
    return MappingProxyType({kind: _asset("image/svg+xml", body) for kind, body in drawn.items() if body})


def _environment(
    assets: Mapping[str, Asset],
    icons: Mapping[str, Asset],
    title: str,
    tenants: Callable[[], Mapping[TenantId, Tenant]],
) -> Environment:
    env = Environment(
        loader=PackageLoader("gateway.web"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    env.globals |= {
        "tone": formats.tone,
        "status_tone": lambda status: formats.tone("status", "troubled" if status.troubled else status.standing),
        "duration": formats.duration,
        "offset": formats.offset,
        "asset": lambda name: f"/static/{name}?v={assets[name].version}",
        "said": lambda t, prefix, code, key="": t.code(prefix, code, kind_of(IntegrationKey(key))),
        "remedy": lambda t, code, key="": t.optional("remedy", code, kind_of(IntegrationKey(key))),
        "number_problem": lambda tenant, number: wrong_with(
            number, tenant.country, InternalNumberRules.of(tenant.options)
        ),
        "title_of": _title_of,
        "icon": lambda kind: f"/icons/{kind}.svg?v={icons[kind].version}" if kind in icons else "",
        "docs_url": lambda kind: found.docs_url if (found := adapters().get(kind)) is not None else "",
        "example_of": _example_of,
        "menu": menu,
        "grouped": grouped,
        "without_texts": without_texts,
        "may_dial": ROLES[Need.DIAL],
        "tenants": tenants,
        "site_title": title,
    }
    return env


@pass_context
def _shown(context: Context, value: Any) -> Any:
    """What is written into a page: titles that have several, in its own language."""
    t = context.get("t") if isinstance(value, Bilingual) else None  # a macro that was imported without context has none
    return t.shown(value) if t is not None else value


def _title_of(key: str) -> str:
    """How people read an adapter's kind or an integration's key."""
    found = adapters().get(kind_of(IntegrationKey(key)))
    return titled(found.title, IntegrationKey(key)) if found is not None else key


def _example_of(kind: str, name: str) -> str:
    """The adapter's block of a tenant file, for the PBX of this name or the integration of this key."""
    adapter = adapters().get(Kind(kind))
    if adapter is None:
        return ""
    example = read_folder(adapter.package).example
    if adapter.is_pbx:
        return example.replace("- name: main\n", f"- name: {name}\n", 1)
    return example if name == kind else example.replace(f"{kind}:\n", f'"{name}":\n', 1)


@dataclass(frozen=True)
class Site:
    """Dependencies, templates and static files of one app."""

    deps: Deps
    assets: Mapping[str, Asset] = field(default_factory=_assets)
    icons: Mapping[str, Asset] = field(default_factory=_icons)
    """The drawings of outside systems by kind."""
    env: Environment = field(init=False)
    sign_ins: SignInAudit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", _environment(self.assets, self.icons, self.deps.title, self.deps.cache.tenants))
        object.__setattr__(self, "sign_ins", self.deps.sign_ins or SignInAudit(self.deps.db))

    def render(self, template: str, who: Viewer, **context: Any) -> str:
        """A template as text. Everything in it is escaped."""
        return self.env.get_template(template).render(who=who, t=who.t, f=who.f, **context)

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """A whole page, or a fragment, for the viewer of the request."""
        around = {"note": g.get("flash"), "warnings": g.get("warnings"), "next_step": g.get("next_step")}
        text = self.render(template, viewer(), **{**around, **context})
        return Response(text, status, content_type="text/html; charset=utf-8")

    def formats(self, language: str, zone: ZoneInfo) -> Formats:
        """The formats of a reader."""
        return Formats(words(language), zone)
