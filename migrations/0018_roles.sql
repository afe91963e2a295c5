-- People have roles. One person may belong to several companies: a row of `users` is the membership of an address in one of
-- them, and a session, known by its token, has a row for each membership that its password opened. Operators act as a company.

-- The owner is walled in too: without this it would find no row to change.
ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
ALTER TABLE users
    ADD COLUMN user_id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN role    text NOT NULL DEFAULT 'admin' CHECK (role IN ('operator', 'admin', 'agent', 'auditor')),
    ADD COLUMN name    text NOT NULL DEFAULT '',
    ADD COLUMN phones  text[] NOT NULL DEFAULT '{}';    -- an agent's internal numbers
UPDATE users SET role = 'operator' WHERE tenant_id IS NULL;
ALTER TABLE users ADD CONSTRAINT users_operator CHECK ((role = 'operator') = (tenant_id IS NULL));
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE UNIQUE INDEX users_user_id ON users (tenant_id, user_id);

ALTER TABLE sessions
    ADD COLUMN acting_as     text,                      -- the company that an operator acts as, and why, until when
    ADD COLUMN acting_reason text NOT NULL DEFAULT '',
    ADD COLUMN acting_until  timestamptz,
    ADD CONSTRAINT sessions_acting CHECK (acting_as IS NULL OR tenant_id IS NULL);
-- A session is a person's and not a company's: its rows are found by the token alone.
CREATE INDEX sessions_token ON sessions (token_hash);
