"""What to do next on an installation that is still empty: how its first user and its first company are made.

Logged once, when the gateway is ready. It changes nothing.
"""

import logging
from pathlib import Path

from gateway.domain.errors import Unavailable
from gateway.settings import Settings
from gateway.store.postgres.pool import Database
from gateway.store.users import has_users

log = logging.getLogger(__name__)


async def log_first_steps(db: Database, settings: Settings, *, companies: int) -> None:
    """One line for what is missing, nothing where there are users and companies."""
    try:
        users = await db.engine(has_users)
    except Unavailable:
        return
    gateway = "gateway" if settings.data_dir == Path("var") else f"GATEWAY_DATA_DIR={settings.data_dir} gateway"
    if not users:
        log.warning(
            "nobody can sign in yet. In another terminal: `%s user add YOU@example.com --operator`, then open %s",
            gateway, f"{settings.base_url}/",
        )  # fmt: skip
    if not companies:
        log.warning(
            "there is no company yet. An operator makes one at %s/operators/tenants/new; or write a tenant file as "
            "docs/tenant-file.md shows, then `%s apply tenants.yaml`",
            settings.base_url,
            gateway,
        )
