-- What a company calls an integration; empty: by its outside system's name.
ALTER TABLE integrations ADD COLUMN display_name text NOT NULL DEFAULT '';
