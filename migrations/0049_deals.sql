-- Deals that live in two CRMs: what became of each event on each route, which deal is which, and where the two sides differ.

CREATE TABLE deal_runs (
    tenant_id       text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    run_id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    correlation_id  uuid NOT NULL,                      -- of the event, told to whoever sent it
    route           text NOT NULL,
    source          text NOT NULL,                      -- integrations
    target          text NOT NULL,
    source_deal_id  bigint NOT NULL CHECK (source_deal_id > 0),
    target_deal_id  bigint CHECK (target_deal_id > 0),
    event           text NOT NULL,
    domain          text NOT NULL DEFAULT '',
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'success', 'skipped', 'failed')),
    cause           text NOT NULL DEFAULT '',           -- why it waits, was skipped or failed: a code
    detail          text NOT NULL DEFAULT '',
    changed         text[] NOT NULL DEFAULT '{}',       -- fields that were written
    attempt         integer NOT NULL DEFAULT 0,
    forced          boolean NOT NULL DEFAULT false,     -- a person wants it, whatever was carried before
    received_at     timestamptz NOT NULL,
    due_at          timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    duration_ms     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, run_id),
    CHECK ((state = 'waiting') = (finished_at IS NULL))
);
CREATE INDEX deal_runs_due ON deal_runs (tenant_id, source, target, due_at) WHERE state = 'waiting';
CREATE INDEX deal_runs_event ON deal_runs (tenant_id, correlation_id);
CREATE INDEX deal_runs_state ON deal_runs (tenant_id, state, run_id DESC);
CREATE INDEX deal_runs_deal ON deal_runs (tenant_id, source_deal_id, run_id DESC);
CREATE INDEX deal_runs_age ON deal_runs (tenant_id, finished_at) WHERE state <> 'waiting';

-- For ever: a deal of one side is one deal of the other.
CREATE TABLE deal_links (
    tenant_id       text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    source          text NOT NULL,
    target          text NOT NULL,
    source_deal_id  bigint NOT NULL,
    target_deal_id  bigint NOT NULL,
    digests         jsonb NOT NULL DEFAULT '{}',        -- by route: what was written last
    told_source     boolean NOT NULL DEFAULT false,     -- the target's id stands in the source
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, source, target, source_deal_id)
);
CREATE INDEX deal_links_target ON deal_links (tenant_id, target, target_deal_id);

-- Contacts and companies of carried deals: each is made over there once.
CREATE TABLE deal_parties (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    source      text NOT NULL,
    target      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('contact', 'company')),
    source_id   bigint NOT NULL,
    target_id   bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, source, target, kind, source_id)
);

-- What the last comparison of a route came to, and where the two sides differed then. One that is under way has no end.
CREATE TABLE deal_comparisons (
    tenant_id    text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    route        text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    behind       bigint NOT NULL DEFAULT 0,             -- the last deal of the source that was compared
    compared     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, route)
);
CREATE TABLE deal_differences (
    tenant_id       text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    route           text NOT NULL,
    source_deal_id  bigint NOT NULL,
    target_deal_id  bigint,                             -- null: it is not there at all
    fields          jsonb NOT NULL DEFAULT '[]',        -- [{field, wanted, there}]
    found_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, route, source_deal_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['deal_runs', 'deal_links', 'deal_parties', 'deal_comparisons', 'deal_differences'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT ON deal_runs, deal_links, deal_parties, deal_comparisons, deal_differences TO gateway_app;
GRANT INSERT ON deal_runs TO gateway_app;
GRANT UPDATE (state, cause, detail, attempt, forced, due_at, expires_at, finished_at) ON deal_runs TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON deal_runs, deal_links, deal_parties, deal_comparisons, deal_differences TO gateway_engine;
