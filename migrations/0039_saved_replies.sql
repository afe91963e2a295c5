-- Texts that a company's people send often: offered in the reply box behind a slash.

CREATE TABLE saved_replies (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    reply_id    uuid NOT NULL,
    shortcut    text NOT NULL CHECK (shortcut ~ '^[^\s/]{1,40}$'),    -- what is typed behind the slash
    text        text NOT NULL CHECK (text <> ''),
    changed_by  text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, reply_id)
);
CREATE UNIQUE INDEX saved_replies_shortcut ON saved_replies (tenant_id, lower(shortcut));

ALTER TABLE saved_replies ENABLE ROW LEVEL SECURITY;
ALTER TABLE saved_replies FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON saved_replies TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON saved_replies TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON saved_replies TO gateway_app, gateway_engine;

-- The inbox counts what is open by owner.
CREATE INDEX conversations_open ON conversations (tenant_id, owner, waiting_since) WHERE state = 'open' AND last_message_at IS NOT NULL;
-- Lists of customers show persons alone, not what was merged into them.
DROP INDEX contacts_recent;
CREATE INDEX contacts_recent ON contacts (tenant_id, updated_at DESC, contact_id DESC) WHERE root_id = contact_id;
