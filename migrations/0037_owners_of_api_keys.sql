-- Whose a key is: the person who made it, or who had made the key by which it was made. It ends with its owner, and who replaces a
-- key owns the new one.

ALTER TABLE api_keys
    ADD COLUMN owner_kind text NOT NULL DEFAULT ''          -- empty: made by an older version, and not known
        CHECK (owner_kind IN ('', 'person', 'operator', 'cli', 'outside')),
    ADD COLUMN owner text NOT NULL DEFAULT '';              -- the address of a person or operator; the subject of an outside token
CREATE INDEX api_keys_owner ON api_keys (tenant_id, owner) WHERE owner <> '' AND revoked_at IS NULL;
GRANT SELECT (owner_kind, owner) ON api_keys TO gateway_app;

-- What the audit still says of the keys there are. None is revoked here: the page of keys shows those whose owner is gone.
ALTER TABLE api_keys NO FORCE ROW LEVEL SECURITY;
ALTER TABLE audit NO FORCE ROW LEVEL SECURITY;
UPDATE api_keys k SET owner_kind = a.actor_kind, owner = CASE WHEN a.actor_kind = 'cli' THEN '' ELSE a.actor END
FROM (
    SELECT DISTINCT ON (tenant_id, hint) tenant_id, hint, actor_kind, actor FROM (
        SELECT tenant_id, CASE action WHEN 'api_key.created' THEN target ELSE detail END AS hint, actor_kind, actor, audit_id
        FROM audit WHERE action IN ('api_key.created', 'api_key.rotated')
    ) made WHERE actor_kind IN ('person', 'operator', 'cli') ORDER BY tenant_id, hint, audit_id DESC
) a
WHERE a.tenant_id = k.tenant_id AND a.hint = k.hint;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
