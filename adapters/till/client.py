"""Deliveries to one organization. Every step that makes something there is remembered before the next one.

    attention  the client's open order, by phone -> a notice at the till       (none: noted, nothing is sent)
    guest      an unknown number that has called: looked for in every spelling, then made
    contact    the client of a chat or an order, likewise
    note       what a chat came to: added to the comment of the client's open order
    order      not there yet: guest -> is the till there? -> remembered -> made with our id -> its command polled -> made
               there: what changed goes into its comment; cancelled here, cancelled there

One order is one record whatever is repeated: its id is ours, and "it is there already" leads to it. Nothing says that an order was made
but the cloud: 200 is a command, which is asked about until it says so, and a delivery waits for that. Never judges an answer
(`codec.py`), never writes an order (`orders.py`). Read `guests.py` for whose number it is.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.abilities import CrmField
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.crm_drafts import CONTACT, NOTE, ORDER, client_of, client_subject
from adapters.inbound import SENT_ORDER
from adapters.till import codec, menu, orders
from adapters.till.cloud import Cloud
from adapters.till.guests import Guests
from adapters.till.places import Places
from adapters.till.plan import ATTENTION, GUEST
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from adapters.till.tested import probe_cloud
from gateway.domain.crm_sources import When
from gateway.domain.errors import NotYet, Rejected

COMMAND, MADE, CONTENT, VERSION = "command", "made", "content", "version"
"""Names under which an order is remembered: what is asked about, that it is there, what of it is known there, its newest version."""
NO_ORDER, NOT_THERE = "no_open_order", "not_there"
FIRST_LOOK_S, LONGEST_LOOK_S = 2.0, 60.0
"""Seconds until a command is asked about; they double."""
TILL_AGAIN_S = 60.0
_CHANGED = {"en": "CHANGED, now: {lines}", "ru": "ИЗМЕНЕНО, теперь: {lines}"}


class TillClient:
    """One organization."""

    def __init__(self, link: Link, settings: TillSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self.cloud = Cloud(link, settings, stack)
        self.places = Places(self.cloud)
        self._guests = Guests(self.cloud, link.tenant, settings)

    def __repr__(self) -> str:
        return f"<TillClient of {self._link.tenant.number}>"

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery."""
        try:
            return await self._deliver(attempt)
        except codec.Missing as missing:
            refused = Rejected(missing.detail, person=missing.person)
        # A right that is missing for one thing must not stop the others.
        raise refused

    async def _deliver(self, attempt: Attempt) -> Delivered:
        match attempt.kind:
            case kind if kind == ATTENTION:
                return await self._attention(attempt)
            case kind if kind == GUEST:
                await self._guests.find_or_make(attempt, [attempt.body["phone"]])
                return Delivered()
            case kind if kind == CONTACT:
                await self._contact(attempt, attempt.body["fields"])
                return Delivered()
            case kind if kind == NOTE:
                return await self._note(attempt)
            case kind if kind == ORDER:
                return await self._order(attempt)
        raise Rejected(f"{attempt.kind} is nothing this system is sent")

    # Guests.

    async def _contact(self, attempt: Attempt, fields: Mapping[str, Any], *, anew: bool = False) -> str:
        """The id of the client's guest; empty for one without a phone: the cloud finds nobody by an address alone."""
        client = client_of(attempt.body)
        if not client.phones:
            return ""
        found = await self._guests.find_or_make(
            attempt, client.phones, name=client.name, email=next(iter(client.emails), ""), fields=fields, of=client_subject(client),
            anew=anew,
        )  # fmt: skip
        return found.id

    # Open orders.

    async def _open_order(self, attempt: Attempt, phone: str) -> Mapping[str, Any] | None:
        """The newest delivery of a phone that is under way. Its times are the till's own, which we do not know: a day on both sides."""
        now, day = datetime.now(UTC), timedelta(days=1)
        body = {
            "phone": phone, "organizationIds": [self._settings.organization_id], "rowsCount": 20,
            "deliveryDateFrom": _time(now - day), "deliveryDateTo": _time(now + day),
        }  # fmt: skip
        return orders.open_order(await self.cloud.call(orders.BY_PHONE, body, "orders", attempt=attempt))

    async def _attention(self, attempt: Attempt) -> Delivered:
        found = await self._open_order(attempt, attempt.body["phone"])
        if found is None:
            return Delivered(note=NO_ORDER, usual=True)
        body = {
            "organizationId": self._settings.organization_id, "messageType": self._settings.attention,
            "orderSource": self._settings.source_key, "orderId": found["id"], "additionalInfo": attempt.body["text"],
        }  # fmt: skip
        await self.cloud.call(orders.NOTIFY, body, "notifications", attempt=attempt)
        return Delivered()

    async def _note(self, attempt: Attempt) -> Delivered:
        phone = next(iter(client_of(attempt.body).phones), "")
        found = await self._open_order(attempt, phone) if phone else None
        if found is None:
            return Delivered(note=NO_ORDER, usual=True)
        said = codec.text(codec.mapping(found.get("order")).get("comment"), orders.LONGEST_COMMENT)
        note = codec.text(attempt.body["text"], 2000)[: max(0, orders.LONGEST_COMMENT - len(said) - 2)]
        if not note or note in said:
            return Delivered()
        await self._commanded(
            attempt, f"note {attempt.body['token']}"[:60], orders.COMMENT, str(found["id"]), comment=f"{said}; {note}".lstrip("; ")
        )  # fmt: skip
        return Delivered()

    # Our orders.

    async def _order(self, attempt: Attempt) -> Delivered:
        order = attempt.body["order"]
        if int(await attempt.known(VERSION) or 0) > order["version"]:
            return Delivered()  # an older one, sent again
        await attempt.remember(VERSION, str(order["version"]))
        if order["status"] == "cancelled":
            return await self._cancel(attempt, order["id"])
        if await attempt.known(MADE) is None:
            if order["status"] == "done" and await attempt.known(SENT_ORDER) is None:
                return Delivered(note=NOT_THERE, usual=True)  # over before it was ever sent
            await self._make(attempt)
        await self._tell_change(attempt, order["id"])
        return Delivered()

    async def _make(self, attempt: Attempt) -> None:
        """Returns once the order is at the till. Raises NotYet until then, Rejected where it will not be."""
        body, ident = attempt.body, attempt.body["order"]["id"]
        command = await attempt.known(COMMAND)
        if command is not None:
            await self._await_made(attempt, ident, command)
            return
        orders.create(body, self._settings, "")  # what cannot be sent is refused before a guest is made
        await self._wait_for_till(attempt)
        try:
            guest = await self._contact(attempt, body["client_fields"])
        except (codec.Missing, codec.Refused):
            guest = ""  # an order needs no guest
        await attempt.remember(CONTENT, orders.content_of(body))
        await attempt.remember(SENT_ORDER, ident)
        try:
            answer = await self._create(attempt, guest)
        except codec.Refused as refused:
            if refused.api_code != codec.DUPLICATE:
                raise
            await self._look(attempt, ident)
            return
        info = codec.mapping(answer.get("orderInfo"))
        await attempt.remember(COMMAND, codec.identifier(answer.get("correlationId")) or ident)
        await self._judge(attempt, ident, info)

    async def _create(self, attempt: Attempt, guest: str) -> Mapping[str, Any]:
        """What the cloud answers to the order. A guest whom people have deleted there is made anew, once."""
        body = orders.create(attempt.body, self._settings, guest)
        try:
            return await self.cloud.call(orders.CREATE, body, "orders", attempt=attempt)
        except codec.Refused as refused:
            if refused.api_code == codec.DUPLICATE or not guest or not await self._guests.gone(attempt, guest):
                raise
        guest = await self._contact(attempt, attempt.body["client_fields"], anew=True)
        body = orders.create(attempt.body, self._settings, guest)
        return await self.cloud.call(orders.CREATE, body, "orders", attempt=attempt)

    async def _judge(self, attempt: Attempt, ident: str, info: Mapping[str, Any], *, looked: bool = False) -> None:
        """Returns for an order that is made. Raises as `_make`."""
        match codec.text(info.get("creationStatus")):
            case "Success":
                await attempt.remember(MADE, "1")
            case "Error":
                refused = orders.refusal(info)
                if refused.api_code != codec.DUPLICATE or looked:
                    raise refused
                await self._look(attempt, ident)
            case _:
                raise _later(attempt, "the order is on its way to the till")

    async def _look(self, attempt: Attempt, ident: str) -> None:
        """What has become of an order that the cloud knows, or should know."""
        found = await self._info(attempt, ident)
        if found is None:
            raise Rejected("the cloud knows nothing of this order", person=REASONS["duplicate"])
        await self._judge(attempt, ident, found, looked=True)

    async def _info(self, attempt: Attempt, ident: str) -> Mapping[str, Any] | None:
        body = {"organizationId": self._settings.organization_id, "orderIds": [ident]}
        answer = await self.cloud.call(orders.BY_ID, body, "orders", attempt=attempt)
        return next((one for one in orders.infos(answer) if codec.identifier(one.get("id")) == ident), None)

    async def _await_made(self, attempt: Attempt, ident: str, command: str) -> None:
        try:
            await self._await(attempt, command)
        except codec.Gone:
            await self._look(attempt, ident)
            return
        except codec.Refused as refused:
            if refused.api_code != codec.DUPLICATE:
                raise
            await self._look(attempt, ident)
            return
        await attempt.remember(MADE, "1")

    async def _await(self, attempt: Attempt, command: str) -> None:
        """Returns when a command is done. Raises NotYet while it is not, Refused, and Gone where nobody knows it any more."""
        body = {"organizationId": self._settings.organization_id, "correlationId": command}
        state = await self.cloud.call(orders.STATUS, body, "commands", attempt=attempt)
        match codec.text(state.get("state")):
            case "Success":
                return
            case "Error":
                raise orders.refused(*orders.reason_of(state))
        raise _later(attempt, "the command is under way")

    async def _commanded(self, attempt: Attempt, name: str, path: str, order: str, **more: Any) -> None:
        """A command about an order: sent once, then asked about until it is done. Raises as `_await`."""
        command = await attempt.known(name)
        if command is None:
            body = {"organizationId": self._settings.organization_id, "orderId": order, **more}
            answer = await self.cloud.call(path, body, "orders", attempt=attempt)
            command = codec.identifier(answer.get("correlationId"))
            if not command:
                return
            await attempt.remember(name, command)
        await self._await(attempt, command)

    async def _wait_for_till(self, attempt: Attempt) -> None:
        """Raises NotYet while the till is not there: an order that is sent then turns into an error by itself."""
        settings = self._settings
        if not settings.terminal_group_id:
            return
        body = {"organizationIds": [settings.organization_id], "terminalGroupIds": [settings.terminal_group_id]}
        answer = await self.cloud.call(orders.ALIVE, body, "dictionaries", attempt=attempt)
        found = codec.items(answer.get("isAliveStatus"))
        if found and not any(one.get("isAlive") is True for one in found):
            raise NotYet(REASONS["till"], after_s=TILL_AGAIN_S, person=REASONS["till"])

    async def _tell_change(self, attempt: Attempt, ident: str) -> None:
        """Items cannot be taken from an order there: what it has become stands in its comment, for whoever cooks."""
        content = orders.content_of(attempt.body)
        if await attempt.known(CONTENT) == content:
            return
        said = _CHANGED.get(self._link.tenant.language, _CHANGED["en"])
        lines = said.format(lines=orders.lines_text(attempt.body["order"]["lines"]))
        whole = f"{lines}; {orders.comment_of(attempt.body, self._settings)}".rstrip("; ")[: orders.LONGEST_COMMENT]
        with suppress(codec.Gone):  # done long ago
            await self._commanded(attempt, f"comment {content}", orders.COMMENT, ident, comment=whole)
        await attempt.remember(CONTENT, content)

    async def _cancel(self, attempt: Attempt, ident: str) -> Delivered:
        if await attempt.known(SENT_ORDER) is None:
            return Delivered(note=NOT_THERE, usual=True)
        info = await self._info(attempt, ident)
        status = orders.status_of(info) if info is not None else ""
        if info is None or status == "Cancelled" or codec.text(info.get("creationStatus")) == "Error":
            return Delivered()
        refused = Rejected(f"the order is {status}", person=REASONS["cancel_refused"])
        if status in orders.OVER:
            raise refused
        cause = {"cancelCauseId": self._settings.cancel_cause_id} if self._settings.cancel_cause_id else {}
        try:
            await self._commanded(attempt, "cancel", orders.CANCEL, ident, **cause)
        except codec.Gone:
            return Delivered()
        except codec.Refused as error:
            refused = Rejected(error.detail, person=REASONS["cancel_refused"])
        else:
            return Delivered()
        raise refused

    # Look-ups.

    async def test(self) -> Tested:
        """Whether the login works, and has the chosen place."""
        return await probe_cloud(self.places, self._settings)

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """What of guests and orders rules may write into; sources of marketing and types of orders as the organization has them."""
        return await self.places.fields(self._settings.organization_id)

    async def read_menu(self) -> menu.Read:
        """The organization's menu, or the external one that is set. Raises BadSettings where there is none."""
        settings = self._settings
        organization = await self.places.organization(settings.organization_id)
        if organization is None:
            raise self.places.not_ours()
        if settings.external_menu_id:
            body: dict[str, Any] = {
                "externalMenuId": settings.external_menu_id, "organizationIds": [settings.organization_id],
                "version": menu.EXTERNAL_VERSION,
            }  # fmt: skip
            if settings.price_category_id:
                body["priceCategoryId"] = settings.price_category_id
            answer = await self.cloud.big(menu.EXTERNAL, body, "menu")
            return menu.external(answer, settings.organization_id, organization.currency)
        body = {"organizationId": settings.organization_id, "startRevision": 0}
        return menu.nomenclature(await self.cloud.big(menu.NOMENCLATURE, body, "menu"), organization.currency)

    async def read_stop_list(self, attempt: Attempt) -> frozenset[str]:
        """What cannot be sold now."""
        settings = self._settings
        body: dict[str, Any] = {"organizationIds": [settings.organization_id], "returnSize": True}
        if settings.terminal_group_id:
            body["terminalGroupsIds"] = [settings.terminal_group_id]
        answer = await self.cloud.call(menu.STOP_LISTS, body, "stop_lists", attempt=attempt)
        return menu.stopped(answer, settings.organization_id, settings.terminal_group_id)


def _later(attempt: Attempt, why: str) -> NotYet:
    return NotYet(why, after_s=min(FIRST_LOOK_S * 2.0 ** min(max(attempt.number - 1, 0), 10), LONGEST_LOOK_S))


def _time(moment: datetime) -> str:
    """As the cloud writes times."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.000"


@asynccontextmanager
async def connect(link: Link, settings: TillSettings) -> AsyncIterator[TillClient]:
    """A client of one organization. Opens nothing before first use."""
    async with AsyncExitStack() as stack:
        yield TillClient(link, settings, stack)
