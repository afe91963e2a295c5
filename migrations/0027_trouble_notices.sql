-- People hear of trouble: what is told of, what was told, and the letters on their way. '*' stands for the installation.

CREATE TABLE notices (
    tenant_id   text NOT NULL,
    key         text NOT NULL,                          -- what is in trouble: kind and path
    kind        text NOT NULL,
    title       text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    calm_since  timestamptz,                            -- NULL: in trouble now
    told_at     timestamptz,                            -- when people were told that it began
    reminded_at timestamptz,
    PRIMARY KEY (tenant_id, key)
) WITH (fillfactor = 50);

-- Messages of the last hour, for the limit on them.
CREATE TABLE notice_limits (
    tenant_id   text PRIMARY KEY,
    sent        timestamptz[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

CREATE TABLE mails (
    tenant_id   text NOT NULL,
    mail_id     bigint GENERATED ALWAYS AS IDENTITY,
    recipient   text NOT NULL,
    subject     text NOT NULL,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz,
    attempt     integer NOT NULL DEFAULT 0,
    problem     text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, mail_id)
) WITH (fillfactor = 50);

SELECT wall_in(name) FROM unnest(ARRAY['notices', 'notice_limits', 'mails']) AS name;
GRANT SELECT, INSERT, UPDATE, DELETE ON notices, notice_limits, mails TO gateway_engine;
GRANT SELECT ON notices, mails TO gateway_app;
