-- Missed calls that somebody has dealt with, and what finds calls by the client's number. That a client was reached later is
-- read from the calls themselves, so recording a call writes nothing more than one entry of one of these indexes.

CREATE TABLE missed_calls_done (
    tenant_id   text NOT NULL,
    call_id     text NOT NULL,
    actor       text NOT NULL,                          -- the e-mail address of who marked it
    done_at     timestamptz NOT NULL DEFAULT now(),     -- the same for all that were marked at once: they are undone together
    PRIMARY KEY (tenant_id, call_id),
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls ON DELETE CASCADE
);

ALTER TABLE missed_calls_done ENABLE ROW LEVEL SECURITY;
ALTER TABLE missed_calls_done FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON missed_calls_done TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON missed_calls_done TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON missed_calls_done TO gateway_engine;
GRANT SELECT, INSERT, DELETE ON missed_calls_done TO gateway_app;

-- A call enters these when it has ended. Collation C: the beginning of a number is a range of it, and comparing leaks nothing, so
-- that it may be looked up beneath the policies.
CREATE INDEX calls_client ON calls
    (tenant_id, (CASE WHEN direction = 'incoming' THEN caller ELSE called END COLLATE "C"), started_at)
    WHERE phase = 'ended' AND direction <> 'internal';
CREATE INDEX calls_missed ON calls (tenant_id, started_at DESC)
    WHERE phase = 'ended' AND direction = 'incoming' AND result IS DISTINCT FROM 'answered';
