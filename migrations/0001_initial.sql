-- The first schema. tenant_id is the enterprise's number and stands first in every key and index.
-- Two roles without login, made by the runner: gateway_app works inside one tenant (app.tenant), gateway_engine across
-- tenants for journal, outbox, configuration and keys.

-- Configuration -------------------------------------------------------------------------------------------------------

CREATE TABLE tenants (
    tenant_id   text PRIMARY KEY CHECK (tenant_id ~ '^[0-9A-Za-z_-]{1,32}$'),
    name        text NOT NULL,
    timezone    text NOT NULL,
    country     text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    language    text NOT NULL CHECK (language IN ('ru', 'en')),
    token_hash  bytea,                                  -- SHA-256 of what Asterisk hosts send as Token
    data_key    text NOT NULL,                          -- wrapped by the master key
    options     jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
-- Tokens are looked up before the tenant is known; two tenants can never share one.
CREATE UNIQUE INDEX tenants_token ON tenants (token_hash);

CREATE TABLE phones (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    number      text NOT NULL CHECK (number ~ '^[0-9]{1,15}$'),
    owner       text NOT NULL DEFAULT '',
    endpoints   text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, number)
);

CREATE TABLE pbxes (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name        text NOT NULL CHECK (name ~ '^[0-9A-Za-z_-]{1,32}$'),
    pbx_type    text NOT NULL,
    enabled     boolean NOT NULL DEFAULT true,
    settings    jsonb NOT NULL DEFAULT '{}',            -- what is not secret
    secrets     jsonb NOT NULL DEFAULT '{}',            -- field -> sealed value
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE integrations (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    enabled          boolean NOT NULL DEFAULT true,
    settings         jsonb NOT NULL DEFAULT '{}',
    secrets          jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, integration_type)
);

-- What the caches poll: one row a tenant, raised by every change to any of its rows, whoever makes it.
CREATE SEQUENCE configuration_version;
CREATE TABLE tenant_versions (
    tenant_id   text PRIMARY KEY,
    version     bigint NOT NULL,
    changed_at  timestamptz NOT NULL
);

CREATE FUNCTION configuration_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
    next_version bigint := nextval('configuration_version');
BEGIN
    INSERT INTO tenant_versions AS v (tenant_id, version, changed_at)
    VALUES (changed, next_version, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE
    SET version = greatest(excluded.version, v.version + 1), changed_at = excluded.changed_at
    RETURNING v.version INTO next_version;
    -- A hint to re-read, never the data.
    PERFORM pg_notify('gateway_configuration',
                      json_build_object('table', TG_TABLE_NAME, 'tenant_id', changed, 'version', next_version)::text);
    RETURN NULL;
END $$;

CREATE TRIGGER configuration AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER configuration AFTER INSERT OR UPDATE OR DELETE ON phones
    FOR EACH ROW EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER configuration AFTER INSERT OR UPDATE OR DELETE ON pbxes
    FOR EACH ROW EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER configuration AFTER INSERT OR UPDATE OR DELETE ON integrations
    FOR EACH ROW EXECUTE FUNCTION configuration_changed();

-- People --------------------------------------------------------------------------------------------------------------
-- An operator of the installation is a user without a tenant.

CREATE TABLE users (
    tenant_id     text REFERENCES tenants ON DELETE CASCADE,
    email         text NOT NULL CHECK (email = lower(email)),
    password_hash text NOT NULL,                        -- argon2id
    language      text CHECK (language IN ('ru', 'en')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, email)
);

CREATE TABLE sessions (
    tenant_id   text REFERENCES tenants ON DELETE CASCADE,
    token_hash  bytea NOT NULL,                         -- SHA-256 of the cookie's random part
    email       text NOT NULL,
    csrf        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, token_hash)
);

CREATE TABLE login_links (
    tenant_id   text REFERENCES tenants ON DELETE CASCADE,
    token_hash  bytea NOT NULL,
    email       text NOT NULL,
    expires_at  timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant_id, token_hash)
);

-- Calls ---------------------------------------------------------------------------------------------------------------

-- What machines posted, as they posted it (the token left out), before anything is made of it.
CREATE TABLE journal (
    tenant_id   text NOT NULL,
    journal_id  bigint GENERATED ALWAYS AS IDENTITY,
    address     text NOT NULL,
    unique_id   text NOT NULL,
    digest      bytea NOT NULL,                         -- of address, UniqueId and body: what makes a repeat
    body        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    PRIMARY KEY (tenant_id, journal_id),
    UNIQUE (tenant_id, digest)
);
CREATE INDEX journal_pending ON journal (tenant_id, journal_id) WHERE done_at IS NULL;

CREATE TABLE calls (
    tenant_id      text NOT NULL,
    call_id        text NOT NULL,
    phase          text NOT NULL CHECK (phase IN ('ringing', 'talking', 'ended', 'merged')),
    source         text NOT NULL,                       -- the PBX's name, or 'post'
    direction      text NOT NULL,
    caller         text NOT NULL,
    called         text NOT NULL,
    trunk          text,
    ringing        text[] NOT NULL,
    rang           text[] NOT NULL,
    extension      text,
    last_extension text,
    started_at     timestamptz NOT NULL,
    answered_at    timestamptz,
    ended_at       timestamptz,
    result         text,
    wait_s         double precision,
    talk_s         double precision,
    hung_up_by     text,
    queue          text,
    recording      text,
    uncertain      boolean NOT NULL,
    merged_into    text,
    events         integer NOT NULL,
    PRIMARY KEY (tenant_id, call_id)
) WITH (fillfactor = 80);
CREATE INDEX calls_started ON calls (tenant_id, started_at DESC);
CREATE INDEX calls_open ON calls (tenant_id, call_id) WHERE phase IN ('ringing', 'talking');

CREATE TABLE call_events (
    tenant_id   text NOT NULL,
    call_id     text NOT NULL,
    seq         integer NOT NULL,
    event       text NOT NULL,
    at          timestamptz NOT NULL,
    body        text NOT NULL,                          -- JSON as `gateway replay` prints it
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, call_id, seq)
);

-- Outbox --------------------------------------------------------------------------------------------------------------

CREATE TABLE deliveries (
    tenant_id        text NOT NULL,
    delivery_id      bigint GENERATED ALWAYS AS IDENTITY,
    integration_type text NOT NULL,
    lane             text NOT NULL,                     -- what order is kept for
    key              text NOT NULL,                     -- idempotency key, the same for every attempt and replay
    kind             text NOT NULL,
    bucket           text NOT NULL DEFAULT '',
    call_id          text,
    body             text NOT NULL,
    state            text NOT NULL DEFAULT 'pending'
                     CHECK (state IN ('pending', 'done', 'expired', 'failed', 'doubtful', 'superseded')),
    latest_only      boolean NOT NULL DEFAULT false,
    attempt          integer NOT NULL DEFAULT 0,
    epoch            bigint NOT NULL DEFAULT 0,         -- raised by every claim; an ack names the one it holds
    run_at           timestamptz NOT NULL DEFAULT now(),
    lease_until      timestamptz,
    expires_at       timestamptz,
    keep_until       timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    note             text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, delivery_id),
    UNIQUE (tenant_id, integration_type, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX deliveries_due ON deliveries (tenant_id, integration_type, run_at) WHERE state = 'pending';
CREATE INDEX deliveries_lane ON deliveries (tenant_id, integration_type, lane, delivery_id) WHERE state = 'pending';
CREATE INDEX deliveries_call ON deliveries (tenant_id, call_id);

-- What a delivery asked to be remembered for the next one of its lane: the id of the message to edit.
CREATE TABLE lane_references (
    tenant_id        text NOT NULL,
    integration_type text NOT NULL,
    lane             text NOT NULL,
    reference        text NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, integration_type, lane)
);

CREATE TABLE integration_logs (
    tenant_id         text NOT NULL,
    log_id            bigint GENERATED ALWAYS AS IDENTITY,
    enterprise_number text GENERATED ALWAYS AS (tenant_id) STORED,
    integration_type  text NOT NULL,
    event_type        text NOT NULL,
    request_data      text NOT NULL,
    response_data     text NOT NULL,
    status            text NOT NULL,                    -- what became of the attempt: done, retry, expired, failed...
    error_message     text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    delivery_id       bigint,
    call_id           text,
    attempt           integer NOT NULL DEFAULT 1,
    duration_ms       integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, log_id)
);
CREATE INDEX integration_logs_recent ON integration_logs (tenant_id, integration_type, log_id DESC);
CREATE INDEX integration_logs_call ON integration_logs (tenant_id, call_id);

-- Messages that took their actor down twice, kept for a person to look at.
CREATE TABLE dead_letters (
    tenant_id   text NOT NULL,
    letter_id   bigint GENERATED ALWAYS AS IDENTITY,
    actor       text NOT NULL,
    message     text NOT NULL,
    trace       text NOT NULL,
    version     text NOT NULL,                          -- of the code that failed
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, letter_id)
);

-- Walls ---------------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'phones', 'pbxes', 'integrations', 'tenant_versions', 'users', 'sessions',
                                'login_links', 'journal', 'calls', 'call_events', 'deliveries', 'lane_references',
                                'integration_logs', 'dead_letters'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO gateway_engine', name);
    END LOOP;
END $$;

-- Keys, sessions and login links are the engine's alone.
GRANT SELECT (tenant_id, name, timezone, country, language, options, created_at) ON tenants TO gateway_app;
GRANT UPDATE (name, timezone, country, language, options) ON tenants TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON phones, pbxes, integrations, tenant_versions TO gateway_app;
GRANT SELECT (tenant_id, email, language, created_at) ON users TO gateway_app;
GRANT SELECT ON journal, calls, call_events, lane_references, integration_logs, dead_letters TO gateway_app;
GRANT INSERT ON integration_logs TO gateway_app;
GRANT SELECT, UPDATE ON deliveries TO gateway_app;
GRANT USAGE ON SEQUENCE configuration_version TO gateway_app, gateway_engine;
