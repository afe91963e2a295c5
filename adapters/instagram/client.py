"""Requests to Instagram: a part of a message is sent, a file fetched, the account named, news subscribed to, the token renewed.

Owns the token's header, and what differs between the two logins: Instagram's own has a host of its own and a user's token of 60 days,
Facebook's the Graph API and a page's token; all else is the same. Instagram drops no repeats, so a message whose outcome is not known is
`Doubtful` and not sent again; an error that the Graph API answers says that it was not taken. What answers mean is in `codec.py`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from adapters import meta_files
from adapters.apps import MetaApp
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.channel import MESSAGE, Outgoing, Write
from adapters.http import Http, Timeouts
from adapters.instagram import chats, codec
from adapters.instagram.incoming import FIELDS
from adapters.instagram.settings import InstagramSettings
from adapters.jobs import JobResult
from adapters.meta import GRAPH, VERSION, WARN_BEFORE, Unclear, bearer, check_token, ending, missing, string
from adapters.tokens import FreshToken, Token
from gateway.domain.chats import Person
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    Doubtful,
    GatewayError,
    RateLimited,
    Rejected,
    Unavailable,
    problem_of,
)
from gateway.domain.limiter import RequestBudget
from gateway.domain.secret import Secret

PUBLIC = "https://graph.instagram.com"
PAGE_FIELDS = frozenset({"messages"})
"""What a page is subscribed to: one field is enough for the news of its Instagram account."""
TOKEN = "access"  # noqa: S105 - the name under which the renewed token is stored
YOUNGEST = timedelta(hours=24)
"""The age from which on Meta renews a token."""
MEDIA_S = 60.0
"""For a message with a file: Meta fetches it before it answers."""


class InstagramClient:
    """Speaks for one account."""

    def __init__(self, http: Http, media: Http, link: Link, settings: InstagramSettings) -> None:
        self._http = http
        self._media = media
        self._link = link
        self._settings = settings
        self._by_page = settings.login == "facebook"

    # Messages.

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one part of a message. What may have arrived is Doubtful."""
        if attempt.kind != MESSAGE:
            raise Rejected(f"Instagram takes no deliveries of kind {attempt.kind}")
        part = Outgoing.read(attempt.body)
        media, http = "", self._http
        if part.file is not None:
            kind = chats.sent_as(part.file)
            media, http = self._address_of(part.file.id), self._media
            if kind in ("audio", "video") and self._link.budget is not None:
                await self._take_media(self._link.budget)
        body = chats.payload(part, media)
        hidden = [Secret(media)] if media else []
        try:
            found = await self._call("POST", "/me/messages", attempt, http=http, payload=body, hide=hidden)
        except Unclear as error:
            raise Doubtful(str(error)) from None
        except Unavailable as error:
            if error.certain:
                raise
            raise Doubtful(error.detail) from None
        return Delivered(external_id=codec.message_id(found))

    def _address_of(self, file: str) -> str:
        """Where Meta can fetch a file. Raises Rejected: without such an address texts still go."""
        if self._link.files is None:
            raise Rejected("files cannot be sent from here")
        try:
            return self._link.files.address(file)
        except BadSettings as error:
            raise Rejected(f"no_address: {error.detail}") from None

    async def _take_media(self, budget: RequestBudget) -> None:
        """Sound and video have a rate of their own beside that of all requests. Raises RateLimited of that alone."""
        try:
            await budget.take("media", background=self._link.background)
        except RateLimited as error:
            raise error.of("media") from None

    async def fetch(self, remote: Mapping[str, Any], write: Write, most: int) -> str:
        """A file that came with a message, by its signed address: nothing of ours is sent along."""
        return await meta_files.fetch(self._link, str(remote["url"]), write, most)

    async def typing(self, address: str, provider_id: str = "") -> None:
        """Shows for some seconds that somebody writes."""
        await self._act(address, "typing_on")

    async def mark_read(self, address: str, provider_id: str) -> None:
        """The whole conversation: Instagram takes no message in its place."""
        await self._act(address, "mark_seen")

    async def _act(self, address: str, action: str) -> None:
        """What nobody misses where it comes to nothing."""
        body = {"recipient": {"id": address}, "sender_action": action}
        with suppress(Rejected, Unclear):
            await self._call("POST", "/me/messages", payload=body)

    async def person(self, address: str) -> Person:
        """Who writes. Source: Meta, "User Profile API": it is told of those who have written, and not of all."""
        try:
            found = await self._clear("GET", f"/{chats.address(address)}?fields=name,username")
        except ValueError as error:
            raise Rejected(str(error)) from None
        except BadSettings as error:
            raise codec.judged_person(error) from None
        return Person(name=string(found.get("name")), username=string(found.get("username")))

    # The account and its news.

    async def account(self) -> codec.Account:
        """The account that the token is of."""
        fields = "name,instagram_business_account{id,username}" if self._by_page else "user_id,username"
        return codec.account(await self._clear("GET", f"/me?fields={quote(fields, safe=',')}"))

    def judged(self, found: codec.Account) -> str:
        """What is wrong with the account of the token, as a code; empty for the one that was entered, or where Meta names no id."""
        if found.id == self._settings.page_id or not (found.id or self._by_page):
            return ""
        return "wrong_account" if found.id else "no_account"

    async def ensure_subscribed(self, attempt: Attempt | None = None) -> bool:
        """Makes Meta send the account's news to the application's webhook. Whether there was something to change. Where that is, the
        application alone says. Source: Meta, "Set up Instagram Webhooks"; a page's other subscriptions stay as they are."""
        try:
            known = await self._clear("GET", "/me/subscribed_apps")
        except Rejected:
            known = {}  # what cannot be read is subscribed to anew, which changes nothing where it is so already
        if self._by_page:
            app = self._link.app
            there = codec.subscribed(known, frozenset(), app.app_id if isinstance(app, MetaApp) else "")
        else:
            there = codec.subscribed(known, FIELDS, "")
        if not there:
            fields = ",".join(sorted(PAGE_FIELDS if self._by_page else FIELDS))
            await self._clear("POST", f"/me/subscribed_apps?subscribed_fields={fields}", attempt)
        return not there

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Ends the subscription; that of a page only where it serves nothing else."""
        if self._by_page:
            app = self._link.app
            known = await self._clear("GET", "/me/subscribed_apps")
            if not codec.only_subscribed(known, PAGE_FIELDS, app.app_id if isinstance(app, MetaApp) else ""):
                return
        await self._clear("DELETE", "/me/subscribed_apps", attempt)

    async def test(self) -> Tested:
        """Whether the token is of the account that was entered, with its name."""
        try:
            found = await self.account()
        except GatewayError as error:
            return Tested(False, problem_of(error), self._http.shown(error.detail)[:300])
        if wrong := self.judged(found):
            return Tested(False, wrong, self._http.shown(str(found)))
        lacks = missing(self._settings.webhook_verify_token, self._settings.app_secret, self._link.app)
        return Tested(True, lacks or "ok", self._http.shown(found.name)[:100])

    # The token.

    async def keep_token(self, now: datetime) -> JobResult | None:
        """Renews the token of Instagram's login in time; warns of one that ends and is not renewed. A page's token is only looked at.
        Raises BadCredentials, Unavailable."""
        if self._by_page:
            return await check_token(self._http, self._settings.access_token, self._link.app, now)
        tokens = self._link.tokens
        if tokens is None:
            return None
        seed = codec.seed_of(self._settings.access_token)
        token = await tokens.current(TOKEN)
        held = codec.stored(token.value) if token is not None else None
        first = token is None or held is None or held.seed != seed
        if token is None or held is None or held.seed != seed:  # one that a person has entered since
            held = codec.Renewed(self._settings.access_token, seed, now)
            token = await tokens.put(TOKEN, held.stored())
        age = now - held.since
        if token.expires_at is not None and (token.expires_at - now > WARN_BEFORE or age < YOUNGEST):
            return None
        if token.expires_at is None and not first and age < YOUNGEST:
            return JobResult(after_s=(YOUNGEST - age).total_seconds() + 60.0)
        return await self._renew(token, held, now)

    async def _renew(self, token: Token, held: codec.Renewed, now: datetime) -> JobResult | None:
        assert self._link.tokens is not None
        young = token.expires_at is None and now - held.since < YOUNGEST  # its age is not known, so it may be
        try:
            await self._link.tokens.refresh(TOKEN, partial(self._exchange, held.seed, now), stale=token)
        except BadCredentials:
            if not young:
                raise
            await self.account()  # raises where the token is not good for anything
            return JobResult(after_s=YOUNGEST.total_seconds() + 60.0)
        except (Rejected, BadSettings) as error:
            if token.expires_at is not None:
                return ending(token.expires_at, now)
            if young:
                return JobResult(after_s=YOUNGEST.total_seconds() + 60.0)
            return JobResult(problem="not_renewed", detail=self._http.shown(error.detail)[:300])
        return None

    async def _exchange(self, seed: str, now: datetime, token: Token) -> FreshToken:
        """Source: Meta, "Refresh a long-lived token": without a version, the token in the query."""
        held = codec.stored(token.value)
        path = f"/refresh_access_token?grant_type=ig_refresh_token&access_token={quote(held.token.reveal(), safe='')}"
        try:
            return await self._http.exchange("GET", path, read=lambda answer: codec.renewed(answer, seed, now))
        except Unclear as error:
            raise Unavailable(str(error), certain=False) from None

    # Requests.

    async def _in_force(self) -> tuple[Secret, Token | None]:
        """The renewed token, where the entered one has been renewed; else that one."""
        entered, tokens = self._settings.access_token, self._link.tokens
        if self._by_page or tokens is None:
            return entered, None
        token = await tokens.current(TOKEN)
        held = codec.stored(token.value) if token is not None else None
        if token is None or held is None or held.seed != codec.seed_of(entered):
            return entered, None
        return held.token, token

    async def _clear(self, method: str, path: str, attempt: Attempt | None = None) -> Mapping[str, Any]:
        """A request that can be made again."""
        try:
            return await self._call(method, path, attempt)
        except Unclear as error:
            raise Unavailable(str(error)) from None

    async def _call(
        self, method: str, path: str, attempt: Attempt | None = None, *, http: Http | None = None, hide: list[Secret] | None = None,
        **body: Any,
    ) -> Mapping[str, Any]:  # fmt: skip
        secret, token = await self._in_force()
        number = attempt.number if attempt is not None else 1
        found: Mapping[str, Any] = await (http or self._http).send(
            method, f"/{VERSION}{path}", headers=bearer(secret), attempt=attempt, hide=[secret, *(hide or ())],
            read=partial(codec.read, attempt=number), **body,
        )  # fmt: skip
        if token is not None and self._link.tokens is not None:
            with suppress(Unavailable):  # it has worked, whether that can be noted or not
                await self._link.tokens.worked(TOKEN, token)
        return found


@asynccontextmanager
async def connect(link: Link, settings: InstagramSettings) -> AsyncIterator[InstagramClient]:
    """A client of one account. Opens nothing before first use."""
    known = [settings.access_token, settings.app_secret, settings.webhook_verify_token, settings.hook_id]
    public = GRAPH if settings.login == "facebook" else PUBLIC
    slow = Timeouts(connect_s=settings.connect_timeout_s, read_s=MEDIA_S, whole_s=MEDIA_S)
    async with (
        Http.of(link, public, Timeouts.of(settings), known) as http,
        Http.of(link, public, slow, known) as media,
    ):
        yield InstagramClient(http, media, link, settings)
