"""What becomes of updates that messengers sent: log lines, written in the statement that marks the updates done.

Read `gateway/store/journal.py` for where updates wait, `actors/chats/tenant_chats.py` for who calls this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

INCOMING = "incoming"
"""The event type of a log line about something that was sent to us."""


@dataclass(frozen=True, slots=True)
class UpdateLine:
    """One update and its row of the journal."""

    journal_id: int
    received_at: datetime
    """Of the row: names its partition."""
    integration: IntegrationKey
    provider_id: str
    body: str


async def record_updates(conn: Connection, tenant: TenantId, epoch: int, lines: Sequence[UpdateLine]) -> bool:
    """Logs updates and marks them done, in one statement. False where the tenant's shard has passed on to another epoch:
    then nothing was written. One that is done already is not logged again."""
    passed: bool = await conn.fetchval(
        """
        WITH fence AS MATERIALIZED (
            SELECT FROM shards WHERE shard = $2 AND epoch = $3 FOR SHARE
        ), done AS (
            UPDATE journal j SET done_at = now()
            FROM unnest($4::bigint[], $5::timestamptz[], $6::text[], $7::text[], $8::text[])
                 AS r (journal_id, received_at, integration_type, provider_id, body)
            WHERE j.tenant_id = $1 AND j.journal_id = r.journal_id AND j.received_at = r.received_at
              AND j.done_at IS NULL AND EXISTS (SELECT FROM fence)
            RETURNING j.journal_id, r.integration_type, r.body
        ), logged AS (
            INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data, status)
            SELECT $1, integration_type, $9, body, '', 'received' FROM done ORDER BY journal_id
        )
        SELECT EXISTS (SELECT FROM fence)
        """,
        tenant,
        shard_of(tenant),
        epoch,
        [line.journal_id for line in lines],
        [line.received_at for line in lines],
        [line.integration for line in lines],
        [line.provider_id for line in lines],
        [storable(line.body) for line in lines],
        INCOMING,
    )
    return passed
