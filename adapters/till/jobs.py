"""What an organization's connection does by itself: the menu is read for the catalog, the stop-list for what can be sold now, and our
webhook is entered there. What becomes of a menu that was read is the gateway's own (`actors/menus.py`). Read `menu.py` for its items.
"""

from typing import Any

from adapters.jobs import MENU, Job, JobContext, JobResult, Menu
from adapters.till import codec
from adapters.till.client import TillClient
from adapters.till.incoming import STOP_LISTS
from adapters.till.orders import STATUSES
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.errors import BadSettings

READ_WEBHOOK, ENTER_WEBHOOK = "/api/1/webhooks/settings", "/api/1/webhooks/update_settings"
_NEEDS_PLACE = "choose the organization first"


async def read_menu(client: TillClient, context: JobContext) -> JobResult | None:
    """The menu. Raises BadSettings where it is empty: a catalog is not emptied by a wrong setting."""
    if not context.settings.organization_id:
        return None
    found = await client.read_menu()
    if not found.items:
        raise BadSettings(REASONS["no_menu"], person=REASONS["no_menu"])
    stopped = await client.read_stop_list(context.attempt)
    return JobResult(menu=Menu(items=found.items, left_out=found.left_out), stopped=stopped)


async def read_stop_list(client: TillClient, context: JobContext) -> JobResult | None:
    """What cannot be sold now."""
    if not context.settings.organization_id:
        return None
    return JobResult(stopped=await client.read_stop_list(context.attempt))


async def enter_webhook(client: TillClient, context: JobContext) -> JobResult | None:
    """Enters our address, unless another service's stands there. Bears a repeat."""
    settings: TillSettings = context.settings
    if not settings.set_webhook or not settings.organization_id or (url := context.hook_url) is None:
        return None
    address = url.reveal()
    known = await client.cloud.call(
        READ_WEBHOOK, {"organizationId": settings.organization_id}, "webhooks", attempt=context.attempt
    )
    entered = codec.text(known.get("webHooksUri"), 2000)
    if entered and entered.partition("/hooks/")[0] != address.partition("/hooks/")[0]:
        raise BadSettings(REASONS["other_webhook"], person=REASONS["other_webhook"])
    wanted: dict[str, Any] = {
        "organizationId": settings.organization_id, "webHooksUri": address, "authToken": settings.webhook_token.reveal(),
        "webHooksFilter": {
            "deliveryOrderFilter": {"orderStatuses": list(STATUSES), "itemStatuses": [], "errors": True},
            "stopListUpdateFilter": {"updates": True}, "nomenclatureUpdateFilter": {"updates": True},
        },
    }  # fmt: skip
    if entered == address and codec.text(known.get("authToken"), 200) == wanted["authToken"]:
        return None
    await client.cloud.call(ENTER_WEBHOOK, wanted, "webhooks", attempt=context.attempt)
    return None


JOBS = (
    Job(MENU, 6 * 3600.0, read_menu, first_s=5.0),
    Job(STOP_LISTS, 300.0, read_stop_list, first_s=60.0),
    Job("webhook", 6 * 3600.0, enter_webhook, first_s=5.0),
)
