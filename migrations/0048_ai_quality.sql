-- The AI operator: what was left out of a conversation in short, one more cause of hand-overs; and when a conversation changed.

-- The part of a conversation that no longer fits into a question, in short: up to which message, and who wrote it.
CREATE TABLE ai_summaries (
    tenant_id        text NOT NULL,
    conversation_id  uuid NOT NULL,
    seq              integer NOT NULL CHECK (seq > 0),      -- the last message that is part of it
    text             text NOT NULL,
    made_by          text NOT NULL CHECK (made_by IN ('model', 'digest')),
    made_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, conversation_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
CREATE INDEX ai_summaries_age ON ai_summaries (tenant_id, made_at);
ALTER TABLE ai_summaries ENABLE ROW LEVEL SECURITY;
ALTER TABLE ai_summaries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ai_summaries TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON ai_summaries TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON ai_summaries TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ai_summaries TO gateway_engine;

ALTER TABLE ai_hand_overs DROP CONSTRAINT ai_hand_overs_cause_check;
ALTER TABLE ai_hand_overs ADD CONSTRAINT ai_hand_overs_cause_check
    CHECK (cause IN ('asked', 'model', 'failed', 'limit', 'prompt', 'abuse'));

-- By the database's clock: what streams of changes are read by. Rows that are there get one moment, without being written anew.
ALTER TABLE conversations ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE conversations ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
CREATE INDEX conversations_changed ON conversations (tenant_id, changed_at);
