-- A key has an id of its own, may end, and may be replaced: the old one then lives for a day beside the new.

ALTER TABLE api_keys ADD COLUMN key_id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE api_keys ADD COLUMN expires_at timestamptz;
ALTER TABLE api_keys ADD COLUMN rotated_at timestamptz;             -- since when another stands in its place
CREATE UNIQUE INDEX api_keys_id ON api_keys (tenant_id, key_id);
CREATE INDEX api_keys_newest ON api_keys (tenant_id, created_at DESC, key_id DESC);
GRANT SELECT (key_id, expires_at, rotated_at) ON api_keys TO gateway_app;
