"""The tool that stores how a client can be reached: always of the person of this conversation."""

from typing import Annotated

from pydantic import Field, StringConstraints

from actors.ai.tool import Arguments, Bound, Outcome, Refused, Tool
from gateway.domain.numbers import outside
from gateway.domain.people import wrong_with_email
from gateway.domain.subjects import Subject
from gateway.domain.text import has_breaking
from gateway.store.contacts import add_to_contact, select_contact
from gateway.store.postgres.pool import Connection

MOST = 10
"""Phones, and e-mail addresses, of one person that are taken from chats."""


class Details(Arguments):
    """What the client said of themselves."""

    name: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="", description="the client's name as they gave it"
    )
    phone: Annotated[str, StringConstraints(max_length=40)] = Field(
        default="", description="a telephone number that the client wrote themselves"
    )
    email: Annotated[str, StringConstraints(max_length=254)] = Field(
        default="", description="an e-mail address that the client wrote themselves"
    )


async def save_contact(conn: Connection, bound: Bound, arguments: Details) -> Outcome:
    """Adds what is new; a name only where none is known, for people may have entered a better one."""
    if not (arguments.name or arguments.phone or arguments.email):
        raise Refused("Nothing was given: a name, a phone or an e-mail address is needed.")
    phone = outside(arguments.phone, bound.tenant.country) if arguments.phone else ""
    if arguments.phone and not phone.startswith("+"):
        raise Refused("This is no telephone number. Ask the client for it with the country's code.")
    if arguments.email and wrong_with_email(arguments.email):
        raise Refused("This is no e-mail address. Ask the client for it again.")
    if has_breaking(arguments.name):
        raise Refused("A name is one line.")
    number = bound.tenant.number
    known = await select_contact(conn, number, bound.person)
    if known is None:
        raise Refused("The contact is not there any more.")
    phones, emails = {one.phone for one in known.phones}, {one.casefold() for one in known.emails}
    new_phone = phone if phone not in phones else ""
    new_email = arguments.email if arguments.email.casefold() not in emails else ""
    if (new_phone and len(phones) >= MOST) or (new_email and len(emails) >= MOST):
        raise Refused(
            "This person has too many phones or e-mail addresses already. A colleague has to look: use hand_over."
        )
    chat = bound.conversation
    unnamed = not known.name or known.name in (chat.name, chat.username)
    name = arguments.name if arguments.name and unnamed and arguments.name != known.name else ""
    await add_to_contact(conn, number, known.id, name=name, phone=new_phone, email=new_email)
    saved = {"name": name or known.name, "phone": phone, "email": arguments.email}
    return Outcome(
        value={"saved": {key: value for key, value in saved.items() if value}},
        changed=(Subject("contact", str(known.id)),),
        contacts=(known.id,) if name or new_phone or new_email else (),
    )


TOOLS = (
    Tool(
        name="save_contact", arguments=Details, run=save_contact, changes=True,
        description="Stores the name, phone or e-mail address that the client gave in this conversation. Never guess one.",
    ),
)  # fmt: skip
