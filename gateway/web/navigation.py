"""The menu as data: every section with the address it leads to, whom it is for and what the company must have for it.

`base.html` draws what `menu` gives, by group. A new page is a line in SECTIONS and a text `nav.NAME`, and its lines in
`gateway/web/session/access.py`: the menu only hides pages, and does not protect them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import groupby

from adapters.deals import CarriesDeals
from adapters.registry import integrations
from gateway.domain.configuration import Tenant
from gateway.domain.ids import kind_of
from gateway.domain.people import Role
from gateway.web.session.access import ROLES, Need


class Audience(Enum):
    """Whose addresses a section's are."""

    COMPANY = auto()
    """Below those of the company in view."""
    OPERATORS = auto()
    PERSON = auto()
    """Whoever has signed in: what is one's own."""


class Group(StrEnum):
    """What stands together in the menu, in its order; `nav_group.NAME` is the heading. Work has none: it comes first."""

    WORK = auto()
    CLIENTS = auto()
    CONNECTIONS = auto()
    BOTS = auto()
    COMPANY = auto()
    INSTALLATION = auto()
    ACCOUNT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One entry of the menu."""

    name: str
    """`nav.NAME` is its text."""
    address: str
    group: Group = Group.WORK
    also: tuple[str, ...] = ()
    """Other addresses whose pages belong to it."""
    audience: Audience = Audience.COMPANY
    roles: frozenset[Role] = ROLES[Need.READ]
    """Who of a company's people may open it: those whom its page's line in `access.py` names."""
    needs: type | None = None
    """The ability that the clients of one of the company's integrations must have (`adapters/abilities.py`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A section as it is drawn for one viewer."""

    section: Section
    href: str
    here: bool
    """Whether the page in view belongs to it."""


SECTIONS = (
    Section(name="overview", address="/", roles=ROLES[Need.CALLS]),
    Section(name="calls", address="/calls", roles=ROLES[Need.CALLS]),
    Section(name="missed", address="/missed", roles=ROLES[Need.CALLS]),
    Section(name="dialling", address="/dialling", roles=ROLES[Need.DIAL]),
    Section(name="inbox", address="/inbox", group=Group.CLIENTS, roles=ROLES[Need.CHATS]),
    Section(name="customers", address="/customers", group=Group.CLIENTS, roles=ROLES[Need.CHATS]),
    Section(name="orders", address="/orders", group=Group.CLIENTS, roles=ROLES[Need.CHATS]),
    Section(name="integrations", address="/integrations", also=("/pbxes",), group=Group.CONNECTIONS),
    Section(name="extensions", address="/extensions", also=("/phones",), group=Group.CONNECTIONS),
    Section(name="deliveries", address="/deliveries", group=Group.CONNECTIONS),
    Section(name="deals", address="/deals", group=Group.CONNECTIONS, needs=CarriesDeals),
    Section(name="profile", address="/profile", group=Group.BOTS),
    Section(name="catalog", address="/catalog", group=Group.BOTS),
    Section(name="prompts", address="/prompts", group=Group.BOTS),
    Section(name="ai", address="/ai", group=Group.BOTS),
    Section(name="people", address="/people", group=Group.COMPANY),
    Section(name="keys", address="/keys", group=Group.COMPANY),
    Section(name="notify", address="/notify", group=Group.COMPANY),
    Section(name="audit", address="/audit", group=Group.COMPANY),
    Section(
        name="tenants",
        address="/operators/tenants",
        also=("/operators/act-as",),
        group=Group.INSTALLATION,
        audience=Audience.OPERATORS,
    ),
    *(
        Section(name=name, address=f"/operators/{address}", group=Group.INSTALLATION, audience=Audience.OPERATORS)
        for name, address in (
            ("installation", "installation"),
            ("actors", "actors"),
            ("letters", "letters"),
            ("operators_audit", "audit"),
        )
    ),
    Section(name="security", address="/account/security", group=Group.ACCOUNT, audience=Audience.PERSON),
    Section(name="sessions", address="/account/sessions", group=Group.ACCOUNT, audience=Audience.PERSON),
)


def menu(
    tenant: Tenant | None, path: str, *, operator: bool, role: Role | None, sections: Sequence[Section] = SECTIONS
) -> Sequence[Entry]:
    """The entries for someone who looks at `path`, with a company in view, in which they have a role, or none."""
    home = f"/t/{tenant.number}" if tenant is not None else ""
    entries: list[Entry] = []
    for section in sections:
        ours = section.audience is Audience.COMPANY
        if ours and (tenant is None or role not in section.roles or not _has(tenant, section.needs)):
            continue
        if section.audience is Audience.OPERATORS and not operator:
            continue
        base = home if ours else ""
        here = any(_is_below(path, base + address) for address in (section.address, *section.also))
        entries.append(Entry(section, base + section.address, here))
    return entries


def grouped(entries: Iterable[Entry]) -> list[tuple[Group, list[Entry]]]:
    """The entries by group, in their order."""
    return [(group, list(members)) for group, members in groupby(entries, lambda one: one.section.group)]


def _is_below(path: str, address: str) -> bool:
    return path.partition("?")[0] == address or path.startswith((f"{address}/", f"{address}?"))


def _has(tenant: Tenant, ability: type | None) -> bool:
    if ability is None:
        return True
    known = integrations()
    return any(adapter.can(ability) for key in tenant.integrations if (adapter := known.get(kind_of(key))) is not None)
