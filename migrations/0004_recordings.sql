-- Recordings of calls. The sound itself lies sealed outside the database; here is whose it is and how to open it.

-- One sealed object. Equal sound is kept once a tenant: the address is a keyed hash of it.
CREATE TABLE recording_blobs (
    tenant_id   text NOT NULL,
    address     text NOT NULL,                          -- hex; HMAC of the sound with a key of the tenant's
    object      text NOT NULL,                          -- its name below DATA_DIR/recordings or in the bucket
    file_key    text NOT NULL,                          -- of this object alone, sealed for this address
    size        bigint NOT NULL CHECK (size > 0),       -- of the sound, in bytes
    used_at     timestamptz NOT NULL DEFAULT now(),     -- when a recording last came to name it
    PRIMARY KEY (tenant_id, address)
);
CREATE INDEX recording_blobs_object ON recording_blobs (tenant_id, object);

-- One recording of one call: expected at the hangup, or sent before anybody asked.
--   expected -> fetching -> stored        expected: nobody has tried yet, or it is to be sent to us
--                        -> failed        fetching: tried and to be tried again
CREATE TABLE recordings (
    tenant_id    text NOT NULL,
    recording_id uuid NOT NULL,
    call_id      text NOT NULL,
    state        text NOT NULL CHECK (state IN ('expected', 'fetching', 'stored', 'failed')),
    loose        boolean NOT NULL DEFAULT false,        -- no call with this id is known yet
    pbx          text NOT NULL DEFAULT '',              -- the PBX whose template leads to the file
    told         text NOT NULL DEFAULT '',              -- the file's name as the PBX told it
    url          text,                                  -- where to fetch it from, sealed: addresses may hold passwords
    begins_at    timestamptz NOT NULL DEFAULT now(),    -- when the call began: part of templates
    kept_from    timestamptz NOT NULL DEFAULT now(),    -- retention counts from here
    asked_at     timestamptz NOT NULL DEFAULT now(),    -- a day later it is given up
    run_at       timestamptz,                           -- the next try; null where nothing is to be fetched
    lease_until  timestamptz,
    attempt      integer NOT NULL DEFAULT 0,
    epoch        bigint NOT NULL DEFAULT 0,             -- raised by every claim; an outcome names the one it holds
    problem      text NOT NULL DEFAULT '',              -- a code that the page explains
    detail       text NOT NULL DEFAULT '',
    address      text,
    content_type text NOT NULL DEFAULT '',
    file_name    text NOT NULL DEFAULT '',
    duration_s   double precision,
    peaks        bytea,                                 -- loudness from left to right, a byte each
    stored_at    timestamptz,
    PRIMARY KEY (tenant_id, recording_id),
    FOREIGN KEY (tenant_id, address) REFERENCES recording_blobs (tenant_id, address),
    CHECK ((state = 'stored') = (address IS NOT NULL))
);
CREATE INDEX recordings_call ON recordings (tenant_id, call_id);
CREATE INDEX recordings_kept ON recordings (tenant_id, kept_from);
CREATE INDEX recordings_address ON recordings (tenant_id, address) WHERE address IS NOT NULL;
CREATE INDEX recordings_due ON recordings (tenant_id, run_at) WHERE state IN ('expected', 'fetching');
CREATE INDEX recordings_loose ON recordings (tenant_id, call_id) WHERE loose;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['recording_blobs', 'recordings'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO gateway_engine', name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON recordings, recording_blobs TO gateway_app;
