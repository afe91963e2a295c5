"""One-time links by which people set their first password, or a new one. Shown once, to whoever had them made."""

from gateway.domain.ids import TenantId
from gateway.store import users
from gateway.store.audit import insert_audit
from gateway.store.members import Member
from gateway.store.postgres.pool import Connection
from gateway.web.session.tokens import Token

INVITATION_S, RESET_S = 7 * 86400.0, 86400.0


def purpose_of(member: Member) -> str:
    """Whose password is still to be set is invited; for everybody else it is reset."""
    return "invitation" if member.invited else "reset"


def lives_s(purpose: str) -> float:
    """How long a link is good, in seconds."""
    return INVITATION_S if purpose == "invitation" else RESET_S


def welcome_link(public_url: str, text: str) -> str:
    """The address that a link is."""
    return f"{public_url.rstrip('/')}/welcome?token={text}"


async def store_link(conn: Connection, number: TenantId, member: Member, token: Token, by: str) -> None:
    """Stores the link of this token, in place of an earlier one, with its line in the audit trail."""
    purpose = purpose_of(member)
    async with conn.transaction():
        await users.insert_login_link(conn, number, token.token_hash, member.email, lives_s(purpose), purpose)
        await insert_audit(conn, number, by, f"user.{purpose}", member.email)
