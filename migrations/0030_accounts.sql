-- The account of an outside system to which a webhook of the installation's application is led (a phone number's id, a page's id)
-- belongs to one integration of the installation: whoever entered another company's would receive what is written to it.

-- SHA-256 of the kind and the account's id. Null where the adapter has no such field.
ALTER TABLE integrations ADD COLUMN account_hash bytea CHECK (octet_length(account_hash) = 32);
CREATE UNIQUE INDEX integrations_account ON integrations (account_hash);
