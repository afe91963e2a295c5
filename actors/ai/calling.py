"""Carries out the model's calls of tools: validated, bound to this company and conversation, once each, and recorded with what they did.

    the conversation locked, still the AI's, at the epoch of the answer --> arguments --> savepoint --> the tool --> the record --> commit

Whatever the model writes wrongly is answered in words that it can act upon. Read `tool.py` first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from pydantic import ValidationError

from actors.ai.context import valid_json
from actors.ai.tool import LONGEST_OUTCOME, Bound, Outcome, Refused, Tool
from adapters.llm.protocol import ToolCall, ToolShape
from gateway.domain.ai import AiBlock, client_language
from gateway.domain.chats import AI, OWNER_AI, Conversation
from gateway.domain.configuration import Tenant
from gateway.store.ai_answers import CallRow, insert_tool_call, select_same_call
from gateway.store.contacts import select_contact
from gateway.store.conversations import insert_happening, lock_conversation
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import select_time

LONGEST_ARGUMENTS = 20_000


class Dropped(Exception):
    """The answer is no longer wanted: the conversation has another owner or a newer message, or is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """The answer under way."""

    id: UUID
    tenant: Tenant
    settings: AiBlock
    conversation: UUID
    epoch: int
    seq: int
    """The last message that it knows."""
    last_out: int
    """The last message that answers the client."""
    tools: Mapping[str, Tool[Any]]


async def lock_for(conn: Connection, answering: Answering) -> Conversation:
    """The conversation, locked. Raises Dropped where the answer is not to go on."""
    known = await lock_conversation(conn, answering.tenant.number, answering.conversation)
    if known is None or known.owner != OWNER_AI or known.epoch != answering.epoch or known.last_seq != answering.seq:
        raise Dropped
    return known


async def carry_out(
    conn: Connection, answering: Answering, call: ToolCall, turn: int, place: int, refusal: str = ""
) -> tuple[str, Outcome | None]:
    """Carries a call out, or refuses it. Returns what the model reads, and the outcome where something was done anew."""
    known = await lock_for(conn, answering)
    arguments, outcome, refused = call.arguments[:LONGEST_ARGUMENTS], None, True
    tool = answering.tools.get(call.name)
    text = ""
    if refusal:
        text = _problem(refusal)
    elif tool is None:
        text = _problem(f"There is no tool called {call.name[:60]!r}. There are: {', '.join(answering.tools)}.")
    else:
        try:
            given = tool.arguments.model_validate(_object(call.arguments))
        except ValidationError as error:
            text = _problem(
                "; ".join(
                    f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)[:5]
                )
            )
        except ValueError:
            text = _problem("The arguments are no JSON object. Call the tool again with one.")
        else:
            arguments = given.model_dump_json()
            same = None
            if tool.changes:
                same = await select_same_call(
                    conn, answering.tenant.number, known.id, call.name, arguments, answering.last_out
                )
            text, outcome, refused = (
                (same, None, False) if same is not None else await _run(conn, answering, known, tool, given)
            )
    await insert_tool_call(
        conn, answering.tenant.number,
        CallRow(
            id=uuid4(), answer=answering.id, conversation=known.id, seq=answering.seq, round=turn, place=place, name=call.name[:60],
            arguments=arguments if tool is not None else valid_json(arguments), outcome=text, refused=refused,
        ),
    )  # fmt: skip
    return text, outcome


async def _run(
    conn: Connection, answering: Answering, known: Conversation, tool: Tool[Any], given: Any
) -> tuple[str, Outcome | None, bool]:
    tenant = answering.tenant
    person = await select_contact(conn, tenant.number, known.contact)
    bound = Bound(
        tenant=tenant, conversation=known, person=person.id if person is not None else known.contact, settings=answering.settings,
        language=client_language(known.language, tenant.language), key=str(uuid4()), now=await select_time(conn),
    )  # fmt: skip
    try:
        async with conn.transaction():
            outcome: Outcome = await tool.run(conn, bound, given)
            if outcome.note:
                await insert_happening(conn, tenant.number, known.id, "request", AI, outcome.note)
    except Refused as error:
        return _problem(str(error)), None, True
    text = json.dumps(dict(outcome.value), ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_OUTCOME else f"{text[:LONGEST_OUTCOME]} … (cut)", outcome, False


def _problem(text: str) -> str:
    return json.dumps({"error": text}, ensure_ascii=False)


def _object(text: str) -> dict[str, Any]:
    """The arguments; none at all are an empty object. Raises ValueError."""
    if len(text) > LONGEST_ARGUMENTS:
        raise ValueError("too long")
    found = json.loads(text or "{}")
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


@cache
def shape_of(tool: Tool[Any]) -> ToolShape:
    """A tool as the model is told of it: references are resolved, for not every server does that."""
    schema = tool.arguments.model_json_schema()
    made = _resolved({name: value for name, value in schema.items() if name != "$defs"}, schema.get("$defs", {}))
    return ToolShape(
        tool.name, tool.description, {"type": "object", "properties": {}, "additionalProperties": False} | made
    )


def _resolved(node: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolved(one, parts) for one in node]
    if not isinstance(node, dict):
        return node
    if (name := node.get("$ref")) is not None:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _resolved({**parts[name.rpartition("/")[2]], **rest}, parts)
    return {
        key: {one: _resolved(value[one], parts) for one in value} if key == "properties" else _resolved(value, parts)
        for key, value in node.items() if key != "title" or not isinstance(value, str)
    }  # fmt: skip
