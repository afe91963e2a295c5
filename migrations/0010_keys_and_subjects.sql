-- Integrations are known by a key, KIND or KIND:NAME, which stands in every column integration_type; deliveries and log lines
-- are about a subject, of which a call is one kind; the journal has streams.
-- needs: no gateway of an older version. It writes columns that are renamed here, so `migrate` refuses while one runs.

ALTER TABLE integrations ADD CONSTRAINT integrations_key
    CHECK (integration_type ~ '^[a-z][a-z0-9_]{0,30}(:[a-z0-9][a-z0-9_-]{0,30})?$');

ALTER TABLE deliveries RENAME COLUMN call_id TO subject_id;
ALTER TABLE deliveries ADD COLUMN subject_kind text NOT NULL DEFAULT 'call'
    CHECK (subject_kind IN ('call', 'chat', 'contact', 'order', 'deal'));
DROP INDEX deliveries_call;
CREATE INDEX deliveries_subject ON deliveries (tenant_id, subject_kind, subject_id);

ALTER TABLE integration_logs RENAME COLUMN call_id TO subject_id;
ALTER TABLE integration_logs ADD COLUMN subject_kind text NOT NULL DEFAULT 'call'
    CHECK (subject_kind IN ('call', 'chat', 'contact', 'order', 'deal'));
DROP INDEX integration_logs_call;
CREATE INDEX integration_logs_subject ON integration_logs (tenant_id, subject_kind, subject_id);

-- What is made of a row of the journal: calls from posts of Asterisk hosts, chats from webhooks and polls of messengers,
-- deals from webhooks of portals.
ALTER TABLE journal ADD COLUMN stream text NOT NULL DEFAULT 'calls';
DROP INDEX journal_pending;
CREATE INDEX journal_pending ON journal (tenant_id, stream, journal_id) WHERE done_at IS NULL;
