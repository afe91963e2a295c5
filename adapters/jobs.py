"""What an integration does by itself every so often: menus, comparisons, checks of webhooks. Pure shapes.

    ADAPTER = Adapter(..., jobs=(Job("menu", 3600.0, sync_menu),))

    async def sync_menu(client: Client, context: JobContext) -> JobResult | None: ...

A job is run by the instance that owns the tenant, under a lease, by one runner for all (`actors/jobs.py`); it runs again where
its process was killed, so it must bear a repeat.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadSettings
from gateway.domain.ids import IntegrationKey
from gateway.domain.reasons import reason
from gateway.domain.secret import Secret

if TYPE_CHECKING:
    from adapters.base import Attempt, Link


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """For whom a job runs."""

    tenant: Tenant
    """With the internal numbers of this integration's users; without connections."""
    key: IntegrationKey
    settings: Any
    """Valid, of the adapter's settings class."""
    link: "Link"
    attempt: "Attempt"
    """To be given to the client's requests: what is sent and received stands in the integration's log."""

    @property
    def hook_url(self) -> Secret | None:
        """The address that the outside system is to call; None where the integration has none. Raises BadSettings where a system at
        its public address could not reach it."""
        url = self.link.hook_url
        if url is not None and self.link.base_url is None and not url.reveal().startswith("https://"):
            raise BadSettings(reason("no_https"))
        return url


MENU = "menu"
"""The name of the job that reads a menu, in every adapter that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """What an outside system sells, for the company's catalog. The first one of an empty catalog is taken by itself; of later ones
    the difference is shown to a person (`actors/menus.py`)."""

    items: Sequence[Mapping[str, Any]]
    """As `gateway.domain.catalog.Item` reads them; an empty currency is the company's."""
    left_out: int = 0
    """How many could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a run came to. A run may also raise what `gateway.domain.errors` lists."""

    after_s: float | None = None
    """Seconds until the next run; None: by the job's period, or its backoff after a problem."""
    problem: str = ""
    """Why it came to nothing: a code of the UI's texts."""
    detail: str = ""
    menu: Menu | None = None
    """What was read for the catalog; None: nothing was."""
    stopped: frozenset[str] | None = None
    """The ids of menu items that cannot be sold now, an id standing for those that go on behind a point too; None: not read."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of every integration of a kind."""

    name: str
    every_s: float
    run: Callable[[Any, JobContext], Awaitable[JobResult | None]]
    """`run(client, context)`; None is a result without a problem."""
    first_s: float = 0.0
    """Seconds from the integration's set-up to the first run."""
    retry_s: float = 30.0
    """After a problem; doubles with each until `cap_s`, and until `refused_cap_s` where a person has to change something."""
    cap_s: float = 900.0
    refused_cap_s: float = 86_400.0
    while_off: bool = False
    """Also while the integration is switched off: for what has to be sent at the end."""
