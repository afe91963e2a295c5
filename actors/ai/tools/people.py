"""The tool that leads to people: the conversation goes to a colleague. Read `requests.py` for what is left for one."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from actors.ai.tool import Arguments, Bound, HandOver, Outcome, Tool
from gateway.store.postgres.pool import Connection

REASONS = Literal["asked_for_person", "complaint", "unknown_answer", "out_of_scope", "other"]


class Reason(Arguments):
    """Why a person is needed."""

    reason: REASONS = Field(
        description="asked_for_person: the client wants a person; unknown_answer: nothing given says it"
    )
    summary: Annotated[str, StringConstraints(min_length=1, max_length=1500)] = Field(
        description="for the colleague, in the company's language: what the client wants, what was agreed, what is open"
    )


async def hand_over(conn: Connection, bound: Bound, arguments: Reason) -> Outcome:
    """The program tells the client and the colleagues, and ends the answer."""
    return Outcome(value={"handed_over": True}, hand_over=HandOver(reason=arguments.reason, summary=arguments.summary))


TOOLS = (
    Tool(
        name="hand_over", arguments=Reason, run=hand_over, changes=True,
        description=(
            "Gives this conversation to a colleague. Use it when the client asks for a person, complains, is angry or threatens, or "
            "when what you were given does not say the answer."
        ),
    ),
)  # fmt: skip
