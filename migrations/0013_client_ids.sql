-- An outside system's id for us (a field that its adapter marks `unique`) belongs to one integration of the installation,
-- as a tenant's token does: whoever entered another company's would have its users' calls placed and statuses changed.

-- SHA-256. Null where the adapter has no such field, and for rows of before until the first start fills them in.
ALTER TABLE integrations ADD COLUMN client_id_hash bytea CHECK (octet_length(client_id_hash) = 32);
CREATE UNIQUE INDEX integrations_client_id ON integrations (client_id_hash);
