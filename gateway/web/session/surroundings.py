"""What every page of a person shows besides its own content: warnings of the company, and the result of the last button.

A hook of a blueprint, behind its guards; pages alone pay for it, not fragments and streams. Read `flash.py` for results.
"""

from typing import cast

from quart import g, request

from gateway.store.call_pages import any_call
from gateway.web.first_steps import next_step
from gateway.web.session.auth import SAFE_METHODS, Gate
from gateway.web.session.flash import PARAMETER, Flash, read_flash
from gateway.web.session.tokens import Token
from gateway.web.site import viewer
from gateway.web.statuses import warnings_of


def flashed(kind: str) -> Flash | None:
    """The result to show on this page, if it is of this kind."""
    found = cast("Flash | None", g.get("flash"))
    return found if found is not None and found.kind == kind else None


async def look_around(gate: Gate, token: Token | None = None) -> None:
    """Reads both. `token` is that of the session where it is not a person's."""
    if request.method not in SAFE_METHODS or request.headers.get("X-Fragment"):
        return
    if "text/event-stream" in request.headers.get("Accept", "") or viewer().session is None:
        return
    deps, tenant = gate.site.deps, viewer().tenant
    number = tenant.number if tenant is not None else None
    if flash_id := request.args.get(PARAMETER, ""):
        # An operator's page may be about a company that is not in view; the row belongs to the session in any case.
        about = number or (request.view_args or {}).get("number")
        g.flash = await read_flash(deps, token or gate.token(), flash_id, tenant=about)
    if tenant is not None and viewer().person and viewer().may_read:
        g.warnings = await warnings_of(deps, tenant)
    if tenant is not None and viewer().person and viewer().may_change and (step := next_step(tenant)) is not None:
        # A company that only posts events needs no connection of ours: its calls show that it is set up.
        g.next_step = None if await deps.db.tenant(tenant.number, any_call, tenant.number) else step
