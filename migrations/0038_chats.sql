-- Chats: clients as contacts, their conversations in each channel, and the messages of these.
--
-- A message is never changed; what happens to it later stands beside it. Its parts are what the messenger knows by its own ids:
-- an id that is known makes a second delivery, an echo or a webhook sent twice harmless.

CREATE TABLE contacts (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    contact_id  uuid NOT NULL,
    root_id     uuid NOT NULL,                          -- itself, or the contact that it was merged into
    name        text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, contact_id),
    FOREIGN KEY (tenant_id, root_id) REFERENCES contacts (tenant_id, contact_id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX contacts_root ON contacts (tenant_id, root_id);
CREATE INDEX contacts_recent ON contacts (tenant_id, updated_at DESC, contact_id);

CREATE TABLE contact_phones (
    tenant_id   text NOT NULL,
    contact_id  uuid NOT NULL,
    phone       text NOT NULL,                          -- E.164 where it can be read so
    confirmed   boolean NOT NULL DEFAULT false,         -- by a messenger, not typed
    added_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, contact_id, phone),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX contact_phones_phone ON contact_phones (tenant_id, phone, added_at);

CREATE TABLE contact_emails (
    tenant_id   text NOT NULL,
    contact_id  uuid NOT NULL,
    email       text NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, contact_id, email),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX contact_emails_email ON contact_emails (tenant_id, lower(email));

-- Each merge of two contacts, so that it can be undone: which contacts were led to `into_id` by it.
CREATE TABLE contact_merges (
    tenant_id   text NOT NULL,
    merge_id    bigint GENERATED ALWAYS AS IDENTITY,
    into_id     uuid NOT NULL,
    other_id    uuid NOT NULL,
    moved       uuid[] NOT NULL,
    merged_by   text NOT NULL,                          -- a person, or `messenger`
    merged_at   timestamptz NOT NULL DEFAULT now(),
    undone_at   timestamptz,
    PRIMARY KEY (tenant_id, merge_id),
    FOREIGN KEY (tenant_id, into_id) REFERENCES contacts ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, other_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX contact_merges_into ON contact_merges (tenant_id, into_id, merge_id);
CREATE INDEX contact_merges_other ON contact_merges (tenant_id, other_id);

CREATE TABLE conversations (
    tenant_id        text NOT NULL,
    conversation_id  uuid NOT NULL,
    integration_type text NOT NULL,
    address          text NOT NULL CHECK (address <> ''),
    contact_id       uuid NOT NULL,
    state            text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    owner            text NOT NULL CHECK (owner ~ '^(ai|queue|none|human:[!-~]{1,80})$'),
    epoch            bigint NOT NULL DEFAULT 0,         -- raised by every change of owner
    unread           integer NOT NULL DEFAULT 0,
    last_seq         integer NOT NULL DEFAULT 0,
    name             text NOT NULL DEFAULT '',          -- as the messenger shows the client
    username         text NOT NULL DEFAULT '',
    language         text NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_message_at  timestamptz,
    client_wrote_at  timestamptz,                       -- what a messenger's window counts from
    waiting_since    timestamptz,                       -- since the first message that is not answered
    blocked_at       timestamptz,
    PRIMARY KEY (tenant_id, conversation_id),
    UNIQUE (tenant_id, integration_type, address),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX conversations_recent ON conversations (tenant_id, last_message_at DESC, conversation_id DESC) WHERE last_message_at IS NOT NULL;
CREATE INDEX conversations_waiting ON conversations (tenant_id, waiting_since) WHERE waiting_since IS NOT NULL;
CREATE INDEX conversations_contact ON conversations (tenant_id, contact_id);

CREATE TABLE messages (
    tenant_id        text NOT NULL,
    message_id       uuid NOT NULL,
    conversation_id  uuid NOT NULL,
    seq              integer NOT NULL,                  -- the order within the conversation
    direction        text NOT NULL CHECK (direction IN ('in', 'out')),
    author           text NOT NULL,
    text             text NOT NULL DEFAULT '',
    reply_to         uuid,
    status           text CHECK (status IN ('queued', 'sent', 'delivered', 'read', 'failed', 'unknown')),
    error            text NOT NULL DEFAULT '',
    client_id        text,                              -- the sender's own id of it: the same again changes nothing
    at               timestamptz NOT NULL,              -- by the messenger's clock, or ours for what we send
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, message_id),
    UNIQUE (tenant_id, conversation_id, seq),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
CREATE UNIQUE INDEX messages_client_id ON messages (tenant_id, conversation_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX messages_age ON messages (tenant_id, created_at);

CREATE TABLE message_parts (
    tenant_id        text NOT NULL,
    message_id       uuid NOT NULL,
    part             integer NOT NULL,
    conversation_id  uuid NOT NULL,
    integration_type text NOT NULL,
    address          text NOT NULL,
    provider_id      text,                              -- the messenger's; null until it is known
    token            text NOT NULL DEFAULT '',          -- ours, and the key of its delivery
    digest           text NOT NULL DEFAULT '',          -- of what was sent, to know its echo
    status           text NOT NULL,
    error            text NOT NULL DEFAULT '',
    at               timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, message_id, part),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE CASCADE
);
CREATE UNIQUE INDEX message_parts_provider ON message_parts (tenant_id, integration_type, address, provider_id) WHERE provider_id IS NOT NULL;
CREATE UNIQUE INDEX message_parts_token ON message_parts (tenant_id, integration_type, token) WHERE token <> '';
CREATE INDEX message_parts_unconfirmed ON message_parts (tenant_id, conversation_id) WHERE provider_id IS NULL;

-- Files of messages: those that came (fetched from the messenger), and those that people add before they send them.
CREATE TABLE chat_files (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    file_id          uuid NOT NULL,
    message_id       uuid,                              -- null until it is sent
    place            integer NOT NULL DEFAULT 0,
    integration_type text,                              -- whose client fetches it
    kind             text NOT NULL CHECK (kind IN ('image', 'voice', 'audio', 'video', 'file', 'sticker', 'location', 'contact', 'other')),
    name             text NOT NULL DEFAULT '',
    content_type     text NOT NULL DEFAULT '',
    size             bigint,
    latitude         double precision,
    longitude        double precision,
    remote           jsonb,                             -- what the adapter's client fetches it by; holds no secret
    state            text NOT NULL CHECK (state IN ('none', 'expected', 'stored', 'failed')),
    problem          text NOT NULL DEFAULT '',          -- why it failed: a code that the page explains
    address          text,                              -- where it lies
    stored_at        timestamptz,
    tries            integer NOT NULL DEFAULT 0,
    run_at           timestamptz NOT NULL DEFAULT now(),
    lease_until      timestamptz,
    epoch            bigint NOT NULL DEFAULT 0,         -- raised by every claim; an outcome names the one it holds
    created_at       timestamptz NOT NULL DEFAULT now(),
    created_by       text NOT NULL DEFAULT '',          -- who added it, of those that are to be sent
    PRIMARY KEY (tenant_id, file_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, address) REFERENCES recording_blobs (tenant_id, address),
    CHECK ((state = 'stored') = (address IS NOT NULL))
);
CREATE INDEX chat_files_message ON chat_files (tenant_id, message_id, place);
CREATE INDEX chat_files_expected ON chat_files (tenant_id, run_at) WHERE state = 'expected';
CREATE INDEX chat_files_address ON chat_files (tenant_id, address) WHERE address IS NOT NULL;
CREATE INDEX chat_files_unsent ON chat_files (tenant_id, created_by, created_at) WHERE message_id IS NULL;

-- What stands beside the messages: notes, changes of owner, edits, deletions. Rows are added, never changed.
CREATE TABLE conversation_happenings (
    tenant_id        text NOT NULL,
    happening_id     bigint GENERATED ALWAYS AS IDENTITY,
    conversation_id  uuid NOT NULL,
    kind             text NOT NULL,
    author           text NOT NULL,
    text             text NOT NULL DEFAULT '',
    message_id       uuid,
    at               timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, happening_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
CREATE INDEX conversation_happenings_of ON conversation_happenings (tenant_id, conversation_id, happening_id);
CREATE INDEX conversation_happenings_message ON conversation_happenings (tenant_id, message_id) WHERE message_id IS NOT NULL;

-- Whoever answers a client stores the message and its deliveries in one transaction, in the company's own role.
GRANT INSERT ON deliveries TO gateway_app;
-- What the messenger called what was delivered, and why it was not: for parts of messages.
ALTER TABLE deliveries ADD COLUMN external_id text, ADD COLUMN problem text;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['contacts', 'contact_phones', 'contact_emails', 'contact_merges', 'conversations', 'messages',
                                'message_parts', 'chat_files', 'conversation_happenings'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON contacts, contact_phones, contact_emails, contact_merges, conversations, messages, message_parts,
                                        chat_files TO gateway_app, gateway_engine;
GRANT SELECT, INSERT, DELETE ON conversation_happenings TO gateway_app, gateway_engine;

-- A part's status follows its delivery. An id that another row has already (the echo was faster) is left there.
CREATE FUNCTION message_part_delivered() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    reached text := CASE NEW.state WHEN 'done' THEN 'sent' WHEN 'doubtful' THEN 'unknown' WHEN 'pending' THEN 'queued' ELSE 'failed' END;
    named text := nullif(NEW.external_id, '');
BEGIN
    IF named IS NOT NULL AND EXISTS (
        SELECT FROM message_parts o
        WHERE o.tenant_id = NEW.tenant_id AND o.integration_type = NEW.integration_type AND o.provider_id = named
          AND o.token <> NEW.key AND o.address = (SELECT p.address FROM message_parts p WHERE p.tenant_id = NEW.tenant_id
                                                 AND p.integration_type = NEW.integration_type AND p.token = NEW.key)) THEN
        named := NULL;
    END IF;
    UPDATE message_parts p
    SET status = CASE WHEN p.status IN ('queued', 'unknown') OR (p.status = 'failed' AND reached <> 'sent') THEN reached ELSE p.status END,
        provider_id = coalesce(named, p.provider_id),
        error = CASE WHEN reached IN ('failed', 'unknown') THEN coalesce(NEW.problem, '') WHEN reached = 'sent' AND p.status = 'failed' THEN p.error ELSE '' END,
        at = now()
    WHERE p.tenant_id = NEW.tenant_id AND p.integration_type = NEW.integration_type AND p.token = NEW.key;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION message_part_delivered() FROM PUBLIC;
CREATE TRIGGER message_part_delivered AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (NEW.kind = 'message' AND NEW.subject_kind = 'chat' AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION message_part_delivered();

-- A message is as far as the part that is least far: one that failed makes it fail.
CREATE FUNCTION message_status() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE messages m SET status = f.status, error = f.error
    FROM (SELECT p.status, p.error FROM message_parts p
          WHERE p.tenant_id = NEW.tenant_id AND p.message_id = NEW.message_id
          ORDER BY array_position(ARRAY['failed', 'unknown', 'queued', 'sent', 'delivered', 'read'], p.status), p.part LIMIT 1) AS f
    WHERE m.tenant_id = NEW.tenant_id AND m.message_id = NEW.message_id AND m.direction = 'out'
      AND (m.status, m.error) IS DISTINCT FROM (f.status, f.error);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION message_status() FROM PUBLIC;
CREATE TRIGGER message_status AFTER UPDATE OF status, error ON message_parts FOR EACH ROW
    WHEN ((OLD.status, OLD.error) IS DISTINCT FROM (NEW.status, NEW.error))
    EXECUTE FUNCTION message_status();
