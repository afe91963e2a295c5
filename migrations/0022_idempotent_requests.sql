-- Requests of the API that brought an Idempotency-Key, for a day: the same key and body again have the same answer.

CREATE TABLE idempotent_requests (
    tenant_id    text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    request_hash bytea NOT NULL,                        -- SHA-256 of who, which address, and the key
    body_hash    bytea NOT NULL,
    answer       text,                                  -- sealed: it may hold a key that is shown once. NULL: under way
    busy_until   timestamptz NOT NULL,                  -- until when somebody is at work on it
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_hash)
);
CREATE INDEX idempotent_requests_old ON idempotent_requests (tenant_id, created_at);

SELECT wall_in('idempotent_requests');
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_requests TO gateway_engine;
GRANT SELECT, UPDATE ON idempotent_requests TO gateway_app;
