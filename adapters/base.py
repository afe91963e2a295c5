"""The adapter contract: what the gateway requires of every outside system, whatever its kind.

Three kinds shaped it at once: a PBX that streams and obeys, a CRM that is notified and queried, a messenger that sends
and receives. An adapter is one `Adapter` value in `adapters/<name>/__init__.py`: its settings, what its outside system calls on
our side, and `connect`, which gives a client. What a client can do beyond that is an *ability*, one `Protocol` each; the
gateway checks `isinstance(client, StreamsCalls)`, so nothing is implemented to raise "not supported".

This module owns the shapes and does nothing; a little long, because it is one page of them. Read `adapters/retailcrm/__init__.py` next.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from adapters.apps import App, AppCredentials
from adapters.channel import ChatChannel, OutgoingFiles
from adapters.frame import SoftphoneFrame
from adapters.inbound import Inbound
from adapters.jobs import Job
from adapters.login import Login
from adapters.spills import Spills
from adapters.tokens import Tokens
from adapters.widget import Widget
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ChatFacts, ClientFacts, OrderFacts
from gateway.domain.events import CallEvent
from gateway.domain.extensions import user_id
from gateway.domain.health import State
from gateway.domain.ids import Kind
from gateway.domain.limiter import Limits as Limits
from gateway.domain.limiter import Rate as Rate
from gateway.domain.limiter import RequestBudget
from gateway.domain.orders import Order
from gateway.domain.reasons import in_language
from gateway.domain.secret import Secret
from gateway.domain.subjects import Subject


class AdapterSettings(BaseModel):
    """Base of every adapter's settings class. Fields are made with `setting`, so that forms and docs make themselves."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        populate_by_name=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,  # a mistyped token is still a token: it must not stand in the error's text
    )


class BadValue(ValueError):
    """What a settings class raises for a value that cannot be right: the sentence in both languages. Repeats no secret."""

    def __init__(self, en: str, ru: str) -> None:
        super().__init__(en)
        self.texts = {"en": en, "ru": ru}


def setting(
    default: Any = ...,
    *,
    en: str,
    ru: str,
    help_en: str = "",
    help_ru: str = "",
    secret: bool = False,
    advanced: bool = False,
    stored: bool = False,
    shared: bool = False,
    leads: Sequence[str] = (),
    unique: bool = False,
    account: bool = False,
    widget: str = "",
    placeholder: str = "",
    options: Mapping[str, Mapping[str, str]] | None = None,
    default_factory: Callable[[], Any] | None = None,
    **constraints: Any,
) -> Any:
    """A settings field with a label and help text in both languages; `secret=True` seals it at rest and masks it.

    `stored`: a tenant file that does not name it leaves it as it is, because pages of ours fill it in. `shared`: whoever
    came from the outside system itself may see and change it too. `leads`: an address, and the secrets that are sent there:
    stored ones do not follow it to another place. `unique`: a credential of ours that no other integration of the
    installation may have; one that a person chooses has LEAST_UNIQUE characters. `account`: the remote account's id, by which
    webhooks of a shared address find the integration; no two of a kind may have the same. `widget`: how the form shows it where the
    type does not show it (`url`). `placeholder`: an example, shown while nothing is entered. `options`: the labels of a `Literal`'s values, by language; it becomes a list to choose from.
    """
    extra: dict[str, Any] = {
        "label": {"en": en, "ru": ru},
        "help": {"en": help_en, "ru": help_ru},
        "secret": secret,
        "advanced": advanced,
        "stored": stored,
        "shared": shared,
        "leads": list(leads),
        "unique": unique,
        "account": account,
        "widget": widget,
        "placeholder": placeholder,
        "options": {value: dict(labels) for value, labels in (options or {}).items()},
    }
    if default_factory is not None:
        return Field(default_factory=default_factory, json_schema_extra=extra, **constraints)
    return Field(default, json_schema_extra=extra, **constraints)


def secret_fields(settings: type[AdapterSettings]) -> frozenset[str]:
    """The names of the fields that are sealed at rest."""
    return marked_fields(settings, "secret")


def marked_fields(settings: type[AdapterSettings], mark: str) -> frozenset[str]:
    """The names of the fields with a mark of `setting`: secret, advanced, stored or shared."""
    return frozenset(
        name
        for name, info in settings.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(mark)
    )


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a delivery is repeated. `quick_s` are the first delays; then what expires soon comes every `live_s`, and
    what may not be lost after `slow_s` doubling to `cap_s`."""

    quick_s: tuple[float, ...] = (0.5, 1.0, 2.0)
    live_s: float = 5.0
    slow_s: float = 30.0
    cap_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A delivery to be made: imperative, self-contained, and the same whenever it is planned again.

    `key` is the idempotency key within tenant and integration: a second draft with an equal key is dropped.
    `lane` is what order is preserved for; empty is the subject itself, such as the call. `expires_s` and `keep_s` count from the event's arrival.
    """

    kind: str
    key: str
    lane: str = ""
    body: Mapping[str, Any]
    expires_s: float | None = None
    """After so many seconds it is useless and dropped as expired (real-time events)."""
    keep_s: float = 48 * 3600.0
    """How long it is retried when it may not be lost."""
    bucket: str = ""
    latest_only: bool = False
    """A card whose last state alone matters: an older draft of the lane that nobody has tried yet is dropped."""


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try at one delivery. The client records its requests and responses, masked, as it goes."""

    kind: str
    key: str
    lane: str
    body: Mapping[str, Any]
    number: int = 1
    reference: str | None = None
    """What an earlier delivery of this lane left to be remembered, such as a message id."""
    request: str = ""
    response: str = ""
    status: int | None = None
    permit: Callable[[], None] = lambda: None
    """Called whenever a part of a request is about to leave. Raises where it must not any more."""
    bucket: str = ""
    """Whose rate its requests count to."""
    paid: bool = False
    """Whether the budget has been charged for the first request already: by whoever made the attempt."""
    users: Callable[[], Mapping[str, str | None]] = dict
    """The internal numbers of the outside system's users at this moment, by the user's id there."""
    ids: "ExternalIds | None" = None
    """Where external ids are durable; None: in this attempt alone."""
    _ids: dict[tuple[str, Subject | None], str] = field(default_factory=dict, init=False, repr=False)

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        """Makes an id of the outside system durable for this delivery's subject, or for the one `of`, under a name such as
        "contact": to be called between creating a thing there and the next step. Raises Replaced or Unavailable: then the attempt is over."""
        self._ids[name, of] = external_id
        if self.ids is None:
            return
        if of is None:
            await self.ids.remember(name, external_id)
        else:
            await self.ids.remember(name, external_id, of)

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        """The id that an attempt at this or another delivery of the subject has remembered. Raises Unavailable."""
        if (name, of) in self._ids or self.ids is None:
            return self._ids.get((name, of))
        return await (self.ids.known(name) if of is None else self.ids.known(name, of))


class ExternalIds(Protocol):
    """The external ids of subjects in one outside system: of the delivery's own, where none is named."""

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        """Returns when it is durable."""
        ...

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        """What was remembered, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """It arrived. `reference` is remembered for the lane; `note` names a code the UI explains (`not_exist_codes`)."""

    reference: str | None = None
    note: str = ""
    detail: str = ""
    usual: bool = False
    """Whether the note says what is nothing to see to: the integration works all the same."""
    external_id: str = ""
    """What a messenger calls the part of a message that was sent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a connection test looked at. `code` has a text `finding.CODE` in the adapter's `texts.toml`."""

    ok: bool
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tested:
    """What a connection test found, in words for a person; `ok` False when something must change."""

    ok: bool
    code: str
    detail: str | Mapping[str, str] = ""
    """What is said beside the text of the code: the same in every language, or by language."""
    findings: tuple[Finding, ...] = ()

    def said(self, language: str) -> str:
        """The detail for a reader."""
        return in_language(self.detail, language) if isinstance(self.detail, str) else self.detail[language]


GATEWAY_ADDRESS, PUBLIC_URL = "GATEWAY_ADDRESS", "PUBLIC_URL"


@dataclass(frozen=True, slots=True)
class Advice:
    """A text to paste on the other side, with what it is and where it goes, by language. `GATEWAY_ADDRESS` in the block
    stands for the address from which we connect, `PUBLIC_URL` for the gateway's own; a page that knows it fills it in."""

    title: Mapping[str, str]
    text: Mapping[str, str]
    block: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """Click-to-call: whoever holds `client_id` requests to connect a user with a number. All as it was sent."""

    client_id: str
    phone: str
    user_id: str = ""
    extension: str = ""
    """The internal number to ring, where the request names it; else the user's."""
    company_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """A user of the outside system has become free, busy or away. All as it was sent."""

    client_id: str
    status: str
    user_id: str = ""
    extension: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsibleRequest:
    """The dialplan looks up who is responsible for a caller, and may have the call sent there. All as it was sent."""

    token: str
    unique_id: str
    phone: str
    redirect: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRequest:
    """The outside system has switched our module on or off. All as it was sent."""

    client_id: str
    active: bool


InboundRequest = CallRequest | StatusRequest | ResponsibleRequest | ActivityRequest


@dataclass(frozen=True, slots=True)
class Hook:
    """An address that is called on our side: the same for intake, Quart and the API document.

    `read` turns the fields of a query, a form or a JSON object into the request; it raises `gateway.domain.posts.Invalid`
    with every problem. Finding the tenant, permission and the operation are the gateway's, the same for every adapter.
    """

    path: str
    methods: tuple[str, ...]
    summary: str
    request_type: type[InboundRequest]
    read: Callable[[Mapping[str, Any]], InboundRequest]
    schema: Mapping[str, Any]
    """JSON Schema of the fields, for the API document."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a client is given: whose it is, where to connect, and how to report its state."""

    tenant: Tenant
    name: str
    base_url: str | None
    """The operator's replacement for the provider's public address (`PROVIDER_URLS`)."""
    dial: "Dialer"
    report: Callable[[State, str, str], None] = lambda state, code, detail: None
    spills: Spills | None = None
    """Where bytes that cannot be dealt with yet may wait on the disk; None: in memory alone."""
    budget: RequestBudget | None = None
    """The remote account's, shared by all that speak to it; None: without a limit."""
    background: bool = False
    """Nobody waits for what this client does: it gives way to those for whom somebody does."""
    hook_url: Secret | None = None
    """The address that the outside system calls, for adapters that have one; its last part is unguessable."""
    tokens: Tokens | None = None
    """Tokens that change by themselves; None where they cannot be stored, such as in a test of unsaved settings."""
    app: AppCredentials | None = None
    """The installation's application at the provider, where it has one (`Adapter.app`)."""
    files: OutgoingFiles | None = None
    """The files of messages that are to be sent; None where none can be."""
    public_url: str = ""
    """Where people reach our pages; empty where it is not known."""
    provider_urls: Mapping[str, str] = field(default_factory=dict)
    """All of the operator's replacements, for a provider that has several addresses: its login may have a name of its own."""
    recordings: "Recordings | None" = None
    """The recordings of calls that drafts bear links to; None where there are none."""


class Recordings(Protocol):
    """The recordings of one tenant's calls. A draft made at the end of a call bears the link to a recording that comes later."""

    async def content_type(self, link: str) -> str:
        """What lies behind a link of ours. Raises NotYet while nothing does, Rejected where nothing will, Unavailable."""
        ...

    async def summary(self, recording_id: str) -> str:
        """What was said in a recording, in short. Drafts name the recording and never bear the text, which is sealed. Raises Rejected
        where it was erased or its time is over, Unavailable."""
        ...

    async def content(self, link: str, most: int) -> bytes | None:
        """The sound itself; None where it is larger than `most` bytes. Raises like `content_type`."""
        ...


class Dialer(Protocol):
    """Opens connections to addresses that tenants supply, refusing the ones they may not reach (`adapters.http`)."""

    async def resolve(self, host: str, port: int) -> str:
        """The one address to dial. Raises BadSettings where policy forbids it, Unavailable where there is none."""
        ...

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        """The addresses an HTTP request may be sent to, best first; raises like `resolve`. Ports and plain http are
        judged too. To be called before every connect, and the connection made to one of these addresses."""
        ...


SystemType = Literal["crm", "channel", "pbx"]
"""What an outside system is to a company; a channel is a messenger."""
SettingsClass = type[AdapterSettings]
Class = type
"""`type` as an annotation in a class that has a field of this name."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One kind of outside system, all that the gateway knows of it."""

    kind: Kind
    title: str
    """The system's own name, the same in every language; `Bilingual` for what is no name."""
    type: SystemType
    package: str = ""
    """The import package with `texts.toml`, `icon.svg` and `example.yaml` (`adapters/folder.py`): `__name__`, as a rule."""
    docs_url: str = ""
    """Where the provider explains what our settings require."""
    settings: SettingsClass
    connect: Callable[[Link, Any], AbstractAsyncContextManager[Any]]
    """`async with connect(link, settings) as client`: opens nothing before first use."""
    plan_call: "PlanCall | None" = None
    """For systems that are notified of calls: pure, event in, drafts out."""
    plan_contact: "PlanContact | None" = None
    """For systems that get the clients of chats. Pure, as the two below; called where the integration's `sync_contacts` is on."""
    plan_chat: "PlanChat | None" = None
    """For those that get a note of a chat that is closed or handed over (`sync_contacts`)."""
    plan_order: "PlanOrder | None" = None
    """For those that get orders made and moved (`sync_orders`)."""
    plan_start: "PlanStart | None" = None
    """For those of them that show a call which a host has announced and which rings nowhere yet. Pure."""
    plan_summary: "PlanSummary | None" = None
    """For those of them that take the summary of a call as a note. Pure."""
    limits: Limits = field(default_factory=Limits)
    account: Callable[[Any], str] = lambda settings: ""
    """The key of the remote account that settings lead to (`adapters.budget.account_key`), where the provider counts
    requests by it: all that give the same key share a budget. Empty: each integration has its own."""
    retry: Retry = field(default_factory=Retry)
    hooks: tuple[Hook, ...] = ()
    client: Class = object
    """The class of what `connect` gives, so that abilities are known before anything is connected."""
    client_id_field: str = ""
    """The settings field with the unguessable id by which the outside system identifies itself when it calls us."""
    advice: Callable[[Any], Sequence[Advice]] | None = None
    """What the other side's administrator has to paste there, for these settings or for none yet (None). No secrets."""
    user_id: Callable[[str], str] = user_id
    """How the id of one of its users is written: the id as it is stored, or ValueError."""
    hook_id_field: str = ""
    """The settings field with the unguessable last part of the address that the outside system calls."""
    chat: ChatChannel | None = None
    """For messengers that people write to."""
    widget: Callable[[Any], Widget] | None = None
    """For a chat of our own in a company's site: what its settings say. The settings field marked `account` is its public key."""
    frame: Callable[[Any, str | None], SoftphoneFrame | None] | None = None
    """`frame(settings, base_url)`: for systems whose pages may hold our softphone at `/frames/KIND/HOOK_ID`. Pure; None: not these."""
    inbound: Inbound | None = None
    """For systems that call `/hooks/KIND/HOOK_ID` or whose clients read a stream."""
    app: App | None = None
    """The application that the installation may have at the provider, for its OAuth and its shared webhook."""
    missing: Callable[[Any, AppCredentials | None], str] = lambda settings, app: ""
    """`missing(settings, app)`: what a person has yet to enter before it can work safely, as a code with a text `health.CODE`; until
    then it is pending and delivers nothing. Empty: nothing."""
    streams: Callable[[Any], bool] = lambda settings: False
    """Whether a client with these settings reads updates by itself (`adapters.inbound.StreamsUpdates`)."""
    jobs: tuple[Job, ...] = ()
    notice: Callable[[str, str], Mapping[str, Any]] | None = None
    """`notice(place, text)`: the body of a delivery that shows a plain text in a place of its outside system. Raises BadValue for
    what is no place."""
    """What every integration of this kind does by itself every so often."""
    login: Login | None = None
    """For systems to which a person has to log in, step by step."""
    replay: "Replay | None" = None
    """For PBXes: replays a capture of their stream."""

    @property
    def delivers(self) -> bool:
        """Whether something is delivered to it beside messages of chats."""
        return any(one is not None for one in (self.plan_call, self.plan_contact, self.plan_chat, self.plan_order))

    @property
    def is_pbx(self) -> bool:
        """Whether it is a PBX; a company's PBXes are listed apart, by name."""
        return self.type == "pbx"

    def can(self, ability: Class) -> bool:
        """Whether its clients have an ability, such as `can(ListsUsers)`."""
        return issubclass(self.client, ability)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSource:
    """Where a PBX's files of sound can be fetched: an address with fields such as `{file}` in it."""

    template: str
    user: str = ""
    password: Secret | None = None


@runtime_checkable
class KeepsRecordings(Protocol):
    """The settings of a PBX that lets its recordings be fetched."""

    def recording_source(self) -> RecordingSource | None:
        """None where nothing is entered."""
        ...


PlanCall = Callable[[Any, Tenant, Call | None, Call, CallEvent], Sequence[Draft]]
"""`plan(settings, tenant, before, call, event)`: which deliveries an event makes here; `call` is the state after it,
`before` the state it changed. Pure, and the same drafts for the same arguments."""


PlanContact = Callable[[Any, Tenant, ClientFacts], Sequence[Draft]]
"""`plan(settings, tenant, client)`: what is sent when something of a client has become known. Planned again with equal facts, its
drafts have equal keys."""


PlanChat = Callable[[Any, Tenant, ChatFacts], Sequence[Draft]]
"""`plan(settings, tenant, chat)`: what is sent of a conversation that is closed or handed over."""


PlanOrder = Callable[[Any, Tenant, Order | None, OrderFacts], Sequence[Draft]]
"""`plan(settings, tenant, before, order)`: what is sent of an order that was made (`before` is None) or changed."""


PlanStart = Callable[[Any, Tenant, Call], Sequence[Draft]]
"""`plan(settings, tenant, call)`: which deliveries an announced call makes here, before any event of it."""


PlanSummary = Callable[[Any, Tenant, Call, str], Sequence[Draft]]
"""`plan(settings, tenant, call, recording_id)`: which deliveries make a note of a call's summary, once it is there. The text is read by
`Link.recordings.summary` when it is delivered."""


Replay = Callable[[bytes, str | None, Sequence[str], str | None], Iterable[CallEvent]]
"""`replay(stream, index_of_arrival_times, trunks, country)`: the events of a captured stream. Pure."""


@runtime_checkable
class Delivers(Protocol):
    """Is notified of calls: makes one attempt at one delivery."""

    async def deliver(self, attempt: Attempt) -> Delivered:
        """Raises what `gateway.domain.errors` lists; the deadline is the caller's."""
        ...


@runtime_checkable
class Testable(Protocol):
    """Checks whether its settings work, without changing anything outside."""

    async def test(self) -> Tested:
        """Never raises for what the other side does; that is the finding."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An outside caller has reached the PBX; no phone need ring yet."""

    unique_id: str
    caller: str
    """E.164 where it can be read so."""
    called: str


class CallSink(Protocol):
    """Where a PBX session leaves what it receives. `tell` waits when the tenant is behind."""

    def arrived(self, arrival: Arrival) -> None:
        """A caller is there. Never waits."""
        ...

    def order_answered(self, order_id: str, failure: str) -> None:
        """The employee's phone answered an order of ours, or did not: `failure` is empty or a reason code. Never waits."""
        ...

    async def emit(self, events: Sequence[CallEvent]) -> None:
        """Hands over events in the order in which they happened."""
        ...

    async def open_calls(self) -> Sequence[Call]:
        """The calls of this PBX that are open as far as the gateway was notified, for the resync after a gap."""
        ...


@runtime_checkable
class StreamsCalls(Protocol):
    """A PBX: reports its calls for as long as the session lives."""

    async def run(self, sink: CallSink) -> None:
        """One session, from connect to disconnect. Raises Unavailable, BadCredentials or RemoteProtocolError at its
        end; never returns otherwise. Reconnecting with backoff is the caller's."""
        ...
