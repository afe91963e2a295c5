-- A second factor of sign-in, one-time links for invitations and resets, and what a list of sessions shows.

ALTER TABLE users
    ADD COLUMN factor         text NOT NULL DEFAULT '', -- TOTP secret: sealed with the company's key, an operator's wrapped by the master key
    ADD COLUMN factor_step    bigint NOT NULL DEFAULT 0,   -- the time step of the last code that was accepted: each works once
    ADD COLUMN recovery_codes bytea[] NOT NULL DEFAULT '{}';   -- SHA-256 of 80 random bits each

ALTER TABLE sessions
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN device  text NOT NULL DEFAULT '';

ALTER TABLE login_links
    ADD COLUMN purpose text NOT NULL DEFAULT 'sign_in' CHECK (purpose IN ('sign_in', 'invitation', 'reset')),
    ADD COLUMN used_at timestamptz;                     -- a used link is kept until it would have ended, to say so
