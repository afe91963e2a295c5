"""Invitations and resets by mail: the link is made as the letter leaves, so that no link that is good stands in the database.

    a page: who, and for what -> row of `mails` -> actors.notices.Mails -> written here -> SMTP

A letter that has to be sent again bears another link; of one person's links the last holds. Read `invitations.py` for links shown to
whoever had them made.
"""

from actors.notices import Letter
from gateway.cache import ConfigurationCache
from gateway.domain.ids import TenantId
from gateway.store import users
from gateway.store.audit import insert_audit
from gateway.store.members import Member
from gateway.store.notices import insert_link_mail
from gateway.store.postgres.pool import Connection, Database
from gateway.web.session.invitations import lives_s, purpose_of, welcome_link
from gateway.web.session.tokens import new_token
from gateway.web.translations import words


async def store_letter(conn: Connection, number: TenantId, member: Member, by: str) -> None:
    """Has a letter sent to a member, in place of one that waits, with its line in the audit trail."""
    purpose = purpose_of(member)
    async with conn.transaction():
        await insert_link_mail(conn, number, member.email, purpose)
        await insert_audit(conn, number, by, f"user.{purpose}", member.email)


class LinkLetters:
    """Writes them; for the process."""

    def __init__(self, db: Database, cache: ConfigurationCache, public_url: str) -> None:
        self._db = db
        self._cache = cache
        self._public_url = public_url

    async def write(self, number: TenantId, email: str, purpose: str) -> Letter | None:
        """A letter with a fresh link; None where the person or the company is gone. Raises Unavailable."""
        tenant = self._cache.tenant(number)
        if tenant is None or not await self._db.engine(users.user_exists, number, email):
            return None
        text, token = new_token(number)
        await self._db.engine(
            users.insert_login_link, number, token.token_hash, email, lives_s(purpose), purpose
        )  # fmt: skip
        t = words(tenant.language)
        return Letter(
            t(f"letter.{purpose}_subject", company=tenant.name),
            t(f"letter.{purpose}", company=tenant.name, link=welcome_link(self._public_url, text)),
        )
