-- Ids that outside systems gave to what a delivery has made there, stored in the middle of that delivery: find, create and link,
-- stopped after any step, makes nothing twice.

CREATE TABLE external_ids (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    subject_kind     text NOT NULL CHECK (subject_kind IN ('call', 'chat', 'contact', 'order', 'deal')),
    subject_id       text NOT NULL,
    name             text NOT NULL,                     -- what was made, in the adapter's words: contact, lead, note
    external_id      text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, integration_type, subject_kind, subject_id, name)
);

ALTER TABLE external_ids ENABLE ROW LEVEL SECURITY;
ALTER TABLE external_ids FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON external_ids TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON external_ids TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON external_ids TO gateway_engine;
GRANT SELECT ON external_ids TO gateway_app;
