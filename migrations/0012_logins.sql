-- Logins to outside systems that are under way: one for each integration, ten minutes at most.

CREATE TABLE logins (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    transaction_hash bytea NOT NULL,                    -- SHA-256 of the random state that a redirect brings back
    session_hash     bytea NOT NULL,                    -- of the session that began it; nobody else may go on
    step             text NOT NULL DEFAULT '',
    shown            text NOT NULL DEFAULT '',          -- the step, sealed: its state may hold secrets
    busy_until       timestamptz,                       -- while the step is being done, so that it is done once
    expires_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_type)
);
-- A redirect comes back with nothing but its state.
CREATE UNIQUE INDEX logins_transaction ON logins (transaction_hash);

SELECT wall_in('logins');
GRANT SELECT, INSERT, UPDATE, DELETE ON logins TO gateway_engine;
