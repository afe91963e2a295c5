"""The menu as data: every section with the address it leads to, whom it is for and what the company must have for it.

`base.html` draws what `menu` gives. A new page is a line in SECTIONS and a text `nav.NAME`, and its lines in
`gateway/web/session/access.py`: the menu only hides pages, and does not protect them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One entry of the menu."""

    name: str
    """`nav.NAME` is its text."""
    address: str
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
    apart: bool = False
    """Whether a gap goes before it: the operators' sections behind those of a company."""


SECTIONS = (
    Section(name="overview", address="/", roles=ROLES[Need.CALLS]),
    Section(name="calls", address="/calls", roles=ROLES[Need.CALLS]),
    Section(name="missed", address="/missed", roles=ROLES[Need.CALLS]),
    Section(name="dialling", address="/dialling", roles=ROLES[Need.DIAL]),
    Section(name="extensions", address="/extensions", also=("/phones",)),
    Section(name="integrations", address="/integrations", also=("/pbxes",)),
    Section(name="deliveries", address="/deliveries"),
    Section(name="profile", address="/profile"),
    Section(name="catalog", address="/catalog"),
    Section(name="prompts", address="/prompts"),
    Section(name="keys", address="/keys"),
    Section(name="people", address="/people"),
    Section(name="notify", address="/notify"),
    Section(name="audit", address="/audit"),
    Section(name="tenants", address="/operators/tenants", audience=Audience.OPERATORS),
    Section(name="installation", address="/operators/installation", audience=Audience.OPERATORS),
    Section(name="actors", address="/operators/actors", audience=Audience.OPERATORS),
    Section(name="operators_audit", address="/operators/audit", audience=Audience.OPERATORS),
    Section(name="letters", address="/operators/letters", audience=Audience.OPERATORS),
)


def menu(
    tenant: Tenant | None, path: str, *, operator: bool, role: Role | None, sections: Sequence[Section] = SECTIONS
) -> Sequence[Entry]:
    """The entries for someone who looks at `path`, with a company in view, in which they have a role, or none."""
    home = f"/t/{tenant.number}" if tenant is not None else ""
    entries: list[Entry] = []
    for section in sections:
        ours = section.audience is Audience.COMPANY
        if not operator if not ours else tenant is None or role not in section.roles or not _has(tenant, section.needs):
            continue
        base = home if ours else ""
        here = any(_is_below(path, base + address) for address in (section.address, *section.also))
        first = not ours and tenant is not None and all(one.section.audience is not section.audience for one in entries)
        entries.append(Entry(section, base + section.address, here, first))
    return entries


def _is_below(path: str, address: str) -> bool:
    return path.partition("?")[0] == address or path.startswith((f"{address}/", f"{address}?"))


def _has(tenant: Tenant, ability: type | None) -> bool:
    if ability is None:
        return True
    known = integrations()
    return any(adapter.can(ability) for key in tenant.integrations if (adapter := known.get(kind_of(key))) is not None)
