-- Texts of recorded calls and their summaries, and the queue in which they are made. A row is made with the recording, where the company
-- has that switched on, and goes with it. What was said is sealed; the words of it are there as keyed hashes alone, to be searched.
--   waiting -> done                 done: its text is there, or there was no speech
--           -> failed, skipped      skipped: nobody answered, or the call was too short
--           -> erased               on a person's request
CREATE TABLE call_transcripts (
    tenant_id         text NOT NULL,
    recording_id      uuid NOT NULL,
    state             text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed', 'skipped', 'erased')),
    problem           text NOT NULL DEFAULT '',          -- a code that the page explains
    detail            text NOT NULL DEFAULT '',
    made_at           timestamptz NOT NULL DEFAULT now(),
    run_at            timestamptz NOT NULL DEFAULT now(),
    lease_until       timestamptz,
    attempt           integer NOT NULL DEFAULT 0,
    epoch             bigint NOT NULL DEFAULT 0,         -- raised by every claim; an outcome names the one it holds
    reached           bigint NOT NULL DEFAULT 0,         -- bytes of the recording whose text is there
    reached_s         double precision NOT NULL DEFAULT 0,
    transcribed_at    timestamptz,                       -- when the whole text was there
    body              text NOT NULL DEFAULT '',          -- sealed: the text by channels and times, as far as it is there
    summary           text NOT NULL DEFAULT '',          -- sealed
    words             bigint[] NOT NULL DEFAULT '{}',    -- of text and summary: keyed hashes of their lexemes
    language          text NOT NULL DEFAULT '',
    model             text NOT NULL DEFAULT '',
    summary_model     text NOT NULL DEFAULT '',
    audio_s           double precision NOT NULL DEFAULT 0,
    prompt_tokens     bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, recording_id),
    FOREIGN KEY (tenant_id, recording_id) REFERENCES recordings ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX call_transcripts_due ON call_transcripts (tenant_id, run_at) WHERE state = 'waiting';
CREATE INDEX call_transcripts_newest ON call_transcripts (tenant_id, made_at) WHERE words <> '{}';

ALTER TABLE call_transcripts ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_transcripts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON call_transcripts TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON call_transcripts TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON call_transcripts TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON call_transcripts TO gateway_engine;

-- Whichever way a recording's file comes: fetched, sent, or joined to its call later.
CREATE FUNCTION expect_transcript() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO call_transcripts (tenant_id, recording_id)
    SELECT t.tenant_id, NEW.recording_id FROM tenants t
    WHERE t.tenant_id = NEW.tenant_id AND t.options -> 'ai' -> 'calls' -> 'transcribe' = 'true'::jsonb
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION expect_transcript() FROM PUBLIC;
CREATE TRIGGER transcript AFTER INSERT OR UPDATE OF state ON recordings
    FOR EACH ROW WHEN (NEW.state = 'stored') EXECUTE FUNCTION expect_transcript();

ALTER TABLE ai_days ADD COLUMN audio_s double precision NOT NULL DEFAULT 0;  -- seconds of sound that were sent
