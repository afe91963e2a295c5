"""Routes of deals as pages and the API change them: read from a form or a body, validated, stored with their token, audited.

A route is known by its name: its runs and its comparison are under it, so a name is never changed. Read
`gateway/domain/deal_routes.py` for what a route is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from adapters.deals import CarriesDeals
from adapters.registry import integrations
from gateway.domain.configuration import Tenant
from gateway.domain.deal_routes import (
    MOST_ROUTES,
    DealRoute,
    FromField,
    FromNow,
    FromText,
    Rule,
    routes_of,
    secret_name,
)
from gateway.domain.ids import IntegrationKey, TenantId, kind_of
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import Bilingual
from gateway.store.audit import difference, insert_audit
from gateway.store.deal_comparisons import forget_route
from gateway.store.postgres.pool import Connection
from gateway.store.secrets.seal import Sealer
from gateway.store.tenants import lock_options, set_options, set_tenant_secret
from gateway.web.content.problems import problems_of

NAME = "deal_routes"
KINDS = ("field", "values", "text", "now")
"""Of a rule, as a form has them."""
MOST_ROWS = 200
SPARE_ROWS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the mapping as a form has it."""

    to: str = ""
    kind: str = "field"
    source: str = ""
    """A field, a text, or the form of the time."""
    values: str = ""
    """`FROM = TO`, line by line."""
    otherwise: str = ""


def able(tenant: Tenant) -> list[IntegrationKey]:
    """The company's integrations that a route can have."""
    known = integrations()
    return [
        key for key in tenant.integrations if (one := known.get(kind_of(key))) is not None and one.can(CarriesDeals)
    ]


def routes_for(tenant: Tenant) -> tuple[DealRoute, ...]:
    """The company's routes; none where what is stored is not valid."""
    try:
        return routes_of(tenant.options, tenant.secrets)
    except ValidationError:
        return ()


def row_of(to: str, rule: Rule) -> Row:
    """A rule as a line."""
    match rule:
        case FromText():
            return Row(to, "text", rule.text)
        case FromNow():
            return Row(to, "now", rule.now)
        case FromField(values=None):
            return Row(to, "field", rule.field)
        case FromField():
            lines = "\n".join(f"{one} = {other}" for one, other in (rule.values or {}).items())
            return Row(to, "values", rule.field, lines, rule.otherwise or "")


def read_rows(form: Mapping[str, Sequence[str]]) -> list[Row]:
    """The lines of a form; empty ones are left out."""
    columns = [list(form.get(name, ()))[:MOST_ROWS] for name in ("to", "kind", "from", "values", "otherwise")]
    width = max(map(len, columns))
    columns = [[*column, *[""] * (width - len(column))] for column in columns]
    rows = [
        Row(
            to.strip()[:200],
            kind if kind in KINDS else "field",
            source.strip()[:2000],
            values.strip()[:40_000],
            other.strip()[:1000],
        )
        for to, kind, source, values, other in zip(*columns, strict=True)
    ]
    return [row for row in rows if row.to or row.source or row.values]


def rule_of(row: Row) -> tuple[Any, str]:
    """A line as a rule is written, and what is wrong with its table."""
    if row.kind == "text":
        return {"text": row.source}, ""
    if row.kind == "now":
        return {"now": row.source or "iso"}, ""
    if row.kind == "field" and not row.values:
        return row.source, ""
    values: dict[str, str] = {}
    for line in filter(None, map(str.strip, row.values.splitlines())):
        one, sign, other = line.partition("=")
        if not sign:
            return None, line[:100]
        values[one.strip()] = other.strip()
    return {"field": row.source, "values": values, **({"otherwise": row.otherwise} if row.otherwise else {})}, ""


def filter_of(text: str) -> tuple[dict[str, list[str]], str]:
    """`FIELD = a, b`, line by line, and the first line that is none."""
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, sign, values = line.partition("=")
        given = [one.strip() for one in values.split(",") if one.strip()]
        if not sign or not given:
            return found, line[:100]
        found[name.strip()] = given
    return found, ""


def read_route(data: Mapping[str, Any], tenant: Tenant, stored: DealRoute | None) -> DealRoute:
    """A route from what was sent. `***` in place of the token, or none at all, keeps the stored one. Raises Invalid with every problem by
    its field."""
    whole = dict(data)
    token = whole.get("application_token")
    if stored is not None and (token in (None, MASK) or (isinstance(token, Secret) and token.reveal() == MASK)):
        whole["application_token"] = stored.application_token
    problems: list[tuple[str, str]] = []
    route: DealRoute | None = None
    try:
        route = DealRoute.model_validate(whole)
    except ValidationError as error:
        problems += problems_of(error)
    known = able(tenant)
    for end in ("source", "target"):
        if isinstance(whole.get(end), str) and whole[end] and whole[end] not in known:
            problems.append(
                (
                    end,
                    Bilingual(
                        "no such integration with deals is connected", "такая интеграция со сделками не подключена"
                    ),
                )
            )
    if stored is None and any(one.name == whole.get("name") for one in routes_for(tenant)):
        problems.append(("name", Bilingual("another route has this name", "маршрут с таким именем уже есть")))
    if stored is None and len(routes_for(tenant)) >= MOST_ROUTES:
        problems.append(("name", Bilingual(f"there are {MOST_ROUTES} routes already", f"маршрутов уже {MOST_ROUTES}")))
    if problems or route is None:
        raise Invalid(tuple(problems))
    return route


async def save_route(conn: Connection, number: TenantId, sealer: Sealer, route: DealRoute, person: str) -> bool:
    """Stores a route under its name, its token sealed apart, and audits it. Whether it is a new one. To be run as the engine: the secrets
    are its alone."""
    async with conn.transaction():
        options = await lock_options(conn, number)
        before = [one for one in options.get(NAME) or () if isinstance(one, dict)]
        old = next((one for one in before if one.get("name") == route.name), None)
        plain = route.plain()
        after = [plain if one.get("name") == route.name else one for one in before]
        if old is None:
            after.append(plain)
        await set_options(conn, number, {**options, NAME: after})
        name = secret_name(route.name)
        sealed = None
        if route.application_token is not None:
            sealed = sealer.seal(route.application_token, table="tenants", column=name, row=number)
        await set_tenant_secret(conn, number, name, sealed)
        was, now = difference(old, plain)
        await insert_audit(conn, number, person, "deals.route_saved", route.name, old=was, new=now)
        return old is None


async def remove_route(conn: Connection, number: TenantId, name: str, person: str) -> bool:
    """Removes a route; its runs, and what was carried, stay. False where there is none such. To be run as the engine."""
    async with conn.transaction():
        options = await lock_options(conn, number)
        before = [one for one in options.get(NAME) or () if isinstance(one, dict)]
        old = next((one for one in before if one.get("name") == name), None)
        if old is None:
            return False
        left = [one for one in before if one.get("name") != name]
        await set_options(
            conn, number, {one: value for one, value in {**options, NAME: left}.items() if one != NAME or value}
        )
        await set_tenant_secret(conn, number, secret_name(name), None)
        await forget_route(conn, number, name)
        was, now = difference(old, None)
        await insert_audit(conn, number, person, "deals.route_removed", name, old=was, new=now)
        return True
