-- Approved texts of messengers, for outside the hours in which they take a free one: as the last look at the account found them.

CREATE TABLE message_templates (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    templates        text NOT NULL,                     -- JSON: a list, by name and language
    read_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, integration_type),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE
);
ALTER TABLE message_templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE message_templates FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON message_templates TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON message_templates TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON message_templates TO gateway_engine;
GRANT SELECT ON message_templates TO gateway_app;

-- What a message was made of, to send it again. JSON: name, language, values.
ALTER TABLE messages ADD COLUMN template text;
