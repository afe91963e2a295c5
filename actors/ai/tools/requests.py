"""The tool by which the model leaves a task to people, beside the conversation."""

from typing import Annotated

from pydantic import Field, StringConstraints

from actors.ai.tool import Arguments, Bound, Outcome, Tool
from gateway.store.postgres.pool import Connection


class Wish(Arguments):
    """What somebody of the company has to do."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="for a colleague, in the company's language: who wants what, until when, how to reach them"
    )


async def create_request(conn: Connection, bound: Bound, arguments: Wish) -> Outcome:
    """A request beside the conversation, for people."""
    return Outcome(value={"created": True}, note=arguments.text)


TOOLS = (
    Tool(
        name="create_request", arguments=Wish, run=create_request, changes=True,
        description="Leaves a task for a colleague, for what cannot be done here and does not need an answer at once.",
    ),
)  # fmt: skip
