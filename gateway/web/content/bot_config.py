"""What a bot gets of a company, as JSON: prompt, channels, CRMs, catalog, settings. Built once a change, filled in at reading.

    tenant (memory) + profile, prompt, catalog (database) -> Core      once a version of the tenant, in a thread
    Core + the integrations that work                     -> Answer    once a version and set of them
    Answer + the clock                                    -> the body  at each reading, today and now alone

The ETag is that of all but the clock. Credentials are in the clear here and nowhere else: a bot connects with them. Read
`gateway/web/api/bot_config.py` for who gets it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters.base import Adapter, AdapterSettings
from adapters.registry import adapters
from gateway.domain.catalog import Item
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.profile import Profile
from gateway.domain.prompt_values import at_reading, values_of
from gateway.domain.prompts import pieces
from gateway.domain.secret import Secret
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import select_catalog_json
from gateway.store.postgres.pool import Connection
from gateway.store.prompts import VersionRow, select_active

SWITCHES = ("sync_contacts", "sync_orders")
"""Settings of a CRM that a bot is told of, where it has them."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the database has of a company, beside its configuration."""

    profile: Profile
    prompt: tuple[str, VersionRow] | None
    """The active prompt's name and the version that bots get."""
    catalog: str
    """JSON, in order."""


async def select_bot_content(conn: Connection, number: TenantId) -> Content:
    """All of it."""
    return Content(
        await select_profile(conn, number), await select_active(conn, number), await select_catalog_json(conn, number)
    )


Piece = bytes | str
"""A part of the document as it is sent, or the key of a value that is filled in at reading."""


@dataclass(frozen=True, slots=True)
class Core:
    """What does not depend on whether integrations work."""

    tenant: Tenant
    head: Mapping[str, Any]
    prompt: Sequence[Piece]
    """JSON: a string, or null where there is no active prompt."""
    source: bytes
    tail: bytes
    size: int = field(compare=False)


def build_core(tenant: Tenant, content: Content) -> Core:
    """Everything that takes time. Pure; for ten thousand items it takes some tenths of a second."""
    prompt: list[Piece] = [b"null"]
    source = None
    if content.prompt is not None:
        name, row = content.prompt
        items = _items(content.catalog) if "{{" in row.content else ()
        values = values_of(tenant, content.profile, items, row.variables)
        prompt = [b'"', *_pieces(pieces(row.content, values)), b'"']
        source = {
            "id": row.prompt_id, "name": name, "version": row.version, "content": row.content,
            "variables": [one.plain() for one in row.variables],
        }  # fmt: skip
    head = {"business_id": tenant.number, "business_name": tenant.name, "business_type": content.profile.business_type}
    settings = {
        "language": tenant.language, "timezone": str(tenant.timezone),
        "working_hours": content.profile.plain()["working_hours"],
    }  # fmt: skip
    tail = f'"catalog": {content.catalog}, "settings": {_json(settings)}}}'.encode()
    size = len(tail) + len(_json(source)) + sum(map(len, prompt))
    return Core(tenant, head, prompt, _json(source).encode(), tail, size)


def _items(catalog: str) -> Sequence[Item]:
    rows = json.loads(catalog, parse_float=Decimal)
    return [Item.model_construct(**{**row, "price": Decimal(row["price"])}) for row in rows]


def _pieces(parts: Sequence[tuple[str, bool]]) -> list[Piece]:
    """Pieces of a text as pieces of a JSON string."""
    return [text if later else _json(text)[1:-1].encode() for text, later in parts]


@dataclass(frozen=True, slots=True)
class Answer:
    """All but the clock."""

    tenant: Tenant
    pieces: Sequence[Piece] = field(repr=False)
    etag: str
    late: bool
    """Whether the body depends on the clock."""

    def body(self, now: datetime) -> bytes:
        """The whole document as of `now`."""
        return b"".join(
            piece if isinstance(piece, bytes) else _json(at_reading(piece, self.tenant, now))[1:-1].encode()
            for piece in self.pieces
        )


def finish(core: Core, broken: Collection[IntegrationKey]) -> Answer:
    """With the integrations that are on and not `broken`: those wait for a person and are of no use to a bot."""
    known = adapters()
    channels: list[dict[str, Any]] = []
    crms: list[dict[str, Any]] = []
    primary: dict[str, Any] | None = None
    for key, link in core.tenant.integrations.items():
        adapter = known.get(link.kind)
        if adapter is None or not link.enabled or key in broken:
            continue
        one: dict[str, Any] = {"provider": link.kind, "integration": key, "credentials": credentials(adapter, link)}
        if adapter.type == "channel":
            channels.append({**one, "enabled": True})
        elif adapter.type == "crm":
            fields = adapter.settings.model_fields
            crms.append(one | {name: link.settings.get(name, True) for name in SWITCHES if name in fields})
            if primary is None and link.settings.get("primary") is True:
                primary = crms[-1]
    crm = primary if primary is not None else crms[0] if crms else None
    links = _json({"channels": channels, "crm": crm, "crms": crms})[1:-1].encode()
    late = any(isinstance(piece, str) for piece in core.prompt)
    digest = hashlib.sha256()
    for piece in (_json(core.head), *core.prompt, core.source, links, core.tail):
        digest.update(piece if isinstance(piece, bytes) else b"\x00" + piece.encode() + b"\x00")
    etag = digest.hexdigest()[:32]
    head = _json({**core.head, "version": etag})[:-1].encode()
    whole = [head + b', "prompt": ', *core.prompt, b', "prompt_source": ', core.source, b", ", links, b", ", core.tail]
    return Answer(core.tenant, whole if late else [b"".join(map(_bytes, whole))], etag, late)


def _bytes(piece: Piece) -> bytes:
    assert isinstance(piece, bytes)
    return piece


def credentials(adapter: Adapter, link: Connector) -> dict[str, Any]:
    """The settings without which nobody can connect to the outside system: those that must be entered, and secrets; not the
    ids of ours by which it calls us."""
    names = [
        info.alias or name
        for name, info in adapter.settings.model_fields.items()
        if _is_credential(adapter.settings, name)
    ]
    found = {name: link.settings[name] for name in names if link.settings.get(name)}
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in found.items()}


def _is_credential(settings: type[AdapterSettings], name: str) -> bool:
    info = settings.model_fields[name]
    marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return info.is_required() or (bool(marks.get("secret")) and info.default_factory is None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
