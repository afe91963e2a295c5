"""For operators of the installation: all tenants with their health, and what is alive as a tree.

The picture is drawn here as numbers and in `actors.html` as SVG. The only request a page may make to an actor is a restart,
through the directory. It reads no tenant's calls. Read `actors/runtime/directory.py` for what a slot is.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from actors.connections import TRANSCRIPTS, connections_of
from actors.runtime.directory import Slot, worst
from gateway.domain.configuration import Tenant
from gateway.domain.health import URGENCY, State
from gateway.domain.ids import OPERATOR, IntegrationKey, TenantId
from gateway.domain.statuses import WORST, Connection, Known, Standing, troubles_of
from gateway.store.audit import insert_audit
from gateway.store.installation import select_queues
from gateway.store.integration_states import select_known_of
from gateway.store.shards import select_owners
from gateway.store.tenant_deletions import request_deletion, select_deletions
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, viewer

MOST_TENANTS = 200
MOST_DRAWN = 12
MOST_QUEUES = 10_000

# The picture, in its own units.
NODE_W, NODE_H, GAP_X, GAP_Y, MARGIN = 232, 50, 56, 10, 4
MOST_WELL = 2
"""How many healthy children of one parent are drawn singly; more are drawn as one box."""


@dataclass(frozen=True, slots=True)
class TenantLine:
    """One tenant in the list."""

    tenant: Tenant
    standing: Standing
    troubles: list[Connection]
    """Connections that a person should know of, worst first."""
    own: list[Slot]
    """Actors of the company itself that are in trouble."""
    waiting: int = 0
    """Deliveries that wait."""

    @property
    def troubled(self) -> bool:
        """Whether it works, with problems."""
        return self.standing is Standing.ACTIVE and bool(self.troubles or self.own)

    @property
    def urgency(self) -> tuple[int, int, int]:
        """What comes first is the least."""
        count = len(self.troubles) + len(self.own)
        return WORST.index(self.standing), -bool(count), -count


@dataclass
class Node:
    """One box of the picture."""

    path: str
    title: str
    slot: Slot | None = None
    state: State = State.STOPPED
    children: list["Node"] = field(default_factory=list)
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """The tree with every node placed."""

    nodes: list[Node]
    edges: list[tuple[Node, Node]]
    width: int
    height: int
    hidden: int
    """Tenants that are not drawn; those in trouble are drawn first."""


def _by_tenant(slots: Iterable[Slot]) -> dict[str, list[Slot]]:
    found: defaultdict[str, list[Slot]] = defaultdict(list)
    for slot in slots:
        head, _, rest = slot.path.partition("/")
        if head == "tenant":
            found[rest.partition("/")[0]].append(slot)
    return found


SORTS = ("trouble", "number", "name", "waiting")
"""By what the list can be in order."""


def sorted_lines(lines: Sequence[TenantLine], by: str) -> list[TenantLine]:
    """Lines in one of SORTS: the worst, or the most that waits, first; what is equal by number."""
    match by:
        case "trouble":
            return sorted(lines, key=lambda line: (*line.urgency, line.tenant.number))
        case "waiting":
            return sorted(lines, key=lambda line: (-line.waiting, line.tenant.number))
        case "name":
            return sorted(lines, key=lambda line: (line.tenant.name.casefold(), line.tenant.number))
        case _:
            return list(lines)


def tenant_lines(
    tenants: Iterable[Tenant], slots: Sequence[Slot], known: Mapping[TenantId, Mapping[IntegrationKey, Known]],
    waiting: Mapping[str, int] = MappingProxyType({}),
) -> list[TenantLine]:  # fmt: skip
    """Tenants by number, each with how its connections stand, as its own pages say it, and how many deliveries wait."""
    at = {slot.path: slot for slot in slots}
    lines = []
    for one in sorted(tenants, key=lambda tenant: tenant.number):
        connections = connections_of(one, at.get, known.get(one.number, {}))
        rooms = (at.get(f"tenant/{one.number}{room}") for room in ("", "/chats", TRANSCRIPTS))
        own = [slot for slot in rooms if slot is not None and slot.health.state.troubled]
        found = {connection.status.standing for connection in connections}
        if any(slot.health.state.broken for slot in own):
            found.add(Standing.ERROR)
        elif f"tenant/{one.number}" in at:
            found.add(Standing.ACTIVE)
        standing = next((standing for standing in WORST if standing in found), Standing.INACTIVE)
        lines.append(TenantLine(one, standing, troubles_of(connections), own, waiting.get(one.number, 0)))
    return lines


def _gathered(path: str, nodes: list[Node], well: Callable[[int], str]) -> list[Node]:
    """Children as they are drawn: those in trouble each, many that are well as one box."""
    fine = [node for node in nodes if node.state in (State.ONLINE, State.STOPPED)]
    if len(fine) <= MOST_WELL:
        return nodes
    rest = [node for node in nodes if node not in fine]
    return [*rest, Node(path, well(len(fine)), None, State.ONLINE)]


def _tree(
    slots: Sequence[Slot], only: str | None, root_title: str, system_title: str, well: Callable[[int], str]
) -> tuple[Node, int]:
    root = Node("", root_title)
    system = [slot for slot in slots if slot.path.startswith("system/")]
    if system and only is None:
        branch = Node("system", system_title, None, worst(slot.health for slot in system))
        branch.children = _gathered(
            "system", [Node(slot.path, slot.title, slot, slot.health.state) for slot in system], well
        )
        root.children.append(branch)
    groups = [(number, own) for number, own in _by_tenant(slots).items() if only in (None, number)]
    states = {number: worst(slot.health for slot in own) for number, own in groups}
    groups.sort(key=lambda group: (URGENCY.index(states[group[0]]), group[0]))
    drawn = sorted(groups[:MOST_DRAWN])
    for number, own in drawn:
        head = next((slot for slot in own if slot.path == f"tenant/{number}"), None)
        title = f"{number} {head.title}".strip() if head is not None else number
        branch = Node(f"tenant/{number}", title, head, head.health.state if head is not None else states[number])
        children = [
            Node(slot.path, slot.title or slot.path, slot, slot.health.state) for slot in own if slot is not head
        ]
        branch.children = children if only else _gathered(f"tenant/{number}", children, well)
        root.children.append(branch)
    # A company's problem is not the gateway's: the root shows only shared parts.
    root.state = worst(slot.health for slot in (slots if only else system))
    return root, len(groups) - len(drawn)


def draw(
    slots: Sequence[Slot], only: str | None, root_title: str, system_title: str, well: Callable[[int], str]
) -> Picture:
    """Places the tree from left to right: a leaf takes a line, a parent stands beside its first child. `well` words a box
    for so many processes without trouble."""
    root, hidden = _tree(slots, only, root_title, system_title, well)
    nodes: list[Node] = []
    edges: list[tuple[Node, Node]] = []
    lines = 0

    def place(node: Node, depth: int) -> None:
        nonlocal lines
        node.x = MARGIN + depth * (NODE_W + GAP_X)
        if node.children:
            for child in node.children:
                edges.append((node, child))
                place(child, depth + 1)
            node.y = node.children[0].y
        else:
            node.y = MARGIN + lines * (NODE_H + GAP_Y)
            lines += 1
        nodes.append(node)

    place(root, 0)
    height = 2 * MARGIN + lines * (NODE_H + GAP_Y) - GAP_Y
    return Picture(nodes, edges, 2 * MARGIN + 3 * NODE_W + 2 * GAP_X, height, hidden)


def operators_pages(gate: Gate) -> Blueprint:
    """The pages below `/operators`."""
    pages = Blueprint("operators", __name__, url_prefix="/operators")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    @pages.get("/tenants")
    async def tenants() -> Response:
        looked = request.args.get("q", "").strip()[:80]
        lower = looked.lower()
        found = [t for t in deps.cache.tenants().values() if lower in t.number.lower() or lower in t.name.lower()]
        waiting: Counter[str] = Counter()
        for queue in await deps.db.engine(select_queues, MOST_QUEUES):
            waiting[queue.tenant] += queue.waiting
        sort = request.args.get("sort", "")
        sort = sort if sort in SORTS else "trouble"
        known = await deps.db.engine(select_known_of, [one.number for one in found])
        lines = sorted_lines(tenant_lines(found, await deps.slots(), known, waiting), sort)
        return site.page(
            "tenants.html", lines=lines[:MOST_TENANTS], hidden=len(lines[MOST_TENANTS:]), looked=looked, sort=sort,
            may_create=deps.master is not None, deletions=await deps.db.engine(select_deletions),
        )  # fmt: skip

    @pages.get("/tenants/<number>/delete")
    async def confirm_delete(number: str) -> Response:
        found = deps.cache.tenant(TenantId(number))
        if found is None:
            abort(404)
        return site.page("tenant_delete.html", tenant=found, wrong=flashed("refused") is not None)

    @pages.post("/tenants/<number>/delete")
    async def delete(number: str) -> Answer:
        typed = (await request.form).get("number", "").strip()
        session = viewer().session
        assert session is not None
        if typed != number:
            home = f"/operators/tenants/{quote(number, safe='')}/delete"
            return await lead_on(deps, gate.token(), home, Flash(kind="refused"))
        if not await deps.db.engine(request_deletion, TenantId(number), session.email):
            abort(404)
        await deps.modules.refresh(TenantId(number))
        return await lead_on(deps, gate.token(), "/operators/tenants", note("tenants.deletion_begun", number=number))

    async def picture() -> dict[str, Any]:
        only = request.args.get("tenant") or None
        t = viewer().t
        slots = await deps.slots(f"tenant/{only}" if only else "")
        drawn = draw(slots, only, site.deps.title, t("actors.system"), lambda n: t("actors.well", n=n))
        companies = {node.path for node in drawn.nodes}
        shown = sorted(
            (
                slot
                for slot in slots
                if slot.path.startswith("system/") or "/".join(slot.path.split("/")[:2]) in companies
            ),
            key=lambda slot: slot.path,
        )
        return {"picture": drawn, "slots": shown, "only": only, "node_w": NODE_W, "node_h": NODE_H}

    @pages.get("/actors")
    async def actors() -> Response:
        owners = await deps.db.engine(select_owners)
        return site.page(
            "actors.html", total=len(deps.directory), owners=owners, here=deps.instance(), **await picture()
        )

    @pages.get("/actors/picture")
    async def actors_picture() -> Response:
        return site.page("actors_picture.html", **await picture())

    @pages.post("/actors/restart")
    async def restart() -> Answer:
        form = await request.form
        path = form.get("path", "")
        slot = next((slot for slot in await deps.slots(path) if slot.path == path), None) if path else None
        if slot is None or slot.restart is None:
            abort(404)
        slot.restart()
        session = viewer().session
        assert session is not None
        await deps.db.engine(insert_audit, OPERATOR, session.email, "actor.restarted", path)
        only = form.get("tenant", "")
        where = f"?{urlencode({'tenant': only})}" if only else ""
        return await lead_on(
            deps, gate.token(), f"/operators/actors{where}", note("actors.restarted", name=slot.title or path)
        )

    return pages
