-- The AI operator: secrets of its settings, the search in the catalog, and the trace, use and hand-overs of its answers.

-- Secrets of a company's own settings: a JSON object, name -> sealed value. The engine's alone.
ALTER TABLE tenants ADD COLUMN secrets jsonb NOT NULL DEFAULT '{}';

-- The three-letter pieces of a text's words, by which one with a typing mistake is found, or one that is written in the other alphabet.
CREATE FUNCTION word_trigrams(words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = public, pg_temp AS $$
    SELECT coalesce(array_agg(DISTINCT substr(padded, place, 3)), '{}')
    FROM regexp_split_to_table(translate(lower(words), 'абвгдеёжзийклмнопрстуфхцчшщыэюяьъ', 'abvgdeejziiklmnoprstufhccssyeua'),
                               '[^[:alnum:]]+') AS part,
         LATERAL (SELECT '  ' || part || ' ' AS padded) AS p, generate_series(1, length(padded) - 2) AS place
    WHERE part <> ''
$$;
REVOKE ALL ON FUNCTION word_trigrams(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION word_trigrams(text) TO gateway_app, gateway_engine;

-- The configuration `russian` stems Russian words, and Latin ones as English. No index: a company's rows are looked through, at most
-- ten thousand, for no index can be used behind the row security of tables before it has been applied.
ALTER TABLE catalog_items
    ADD COLUMN search tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('russian', name || ' ' || item_id), 'A') || setweight(to_tsvector('russian', coalesce(category, '')), 'B')
        || setweight(to_tsvector('russian', attributes), 'C') || setweight(to_tsvector('russian', coalesce(description, '')), 'D')) STORED,
    ADD COLUMN trigrams text[] NOT NULL GENERATED ALWAYS AS (word_trigrams(name || ' ' || coalesce(category, ''))) STORED;

-- Each answer that the AI began: by which prompt and model, what it took, and what became of it.
CREATE TABLE ai_answers (
    tenant_id         text NOT NULL,
    answer_id         uuid NOT NULL,
    conversation_id   uuid NOT NULL,
    message_id        uuid,                             -- what was sent; null until then, and where nothing was
    epoch             bigint NOT NULL,                  -- of the conversation when it began
    seq               integer NOT NULL,                 -- the last message that it knew
    state             text NOT NULL DEFAULT 'begun' CHECK (state IN ('begun', 'sent', 'handed_over', 'failed', 'dropped')),
    prompt_id         text NOT NULL DEFAULT '',
    prompt_name       text NOT NULL DEFAULT '',
    prompt_version    integer NOT NULL DEFAULT 0,
    model             text NOT NULL DEFAULT '',
    prompt_tokens     integer NOT NULL DEFAULT 0,
    completion_tokens integer NOT NULL DEFAULT 0,
    requests          integer NOT NULL DEFAULT 0,       -- to the model
    first_token_ms    integer,
    took_ms           integer,
    removed           text[] NOT NULL DEFAULT '{}',     -- links and numbers that were cut from it
    problem           text NOT NULL DEFAULT '',         -- why it failed, a code
    began_at          timestamptz NOT NULL DEFAULT now(),
    ended_at          timestamptz,
    PRIMARY KEY (tenant_id, answer_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE CASCADE
);
CREATE INDEX ai_answers_of ON ai_answers (tenant_id, conversation_id, began_at);
CREATE INDEX ai_answers_message ON ai_answers (tenant_id, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX ai_answers_age ON ai_answers (tenant_id, began_at);

-- Each call of a tool, committed with what it changed. An answer that is begun again reads them.
CREATE TABLE ai_tool_calls (
    tenant_id         text NOT NULL,
    tool_call_id      uuid NOT NULL,
    answer_id         uuid NOT NULL,
    conversation_id   uuid NOT NULL,
    seq               integer NOT NULL,                 -- the conversation's last message then
    round             integer NOT NULL,                 -- those of one round were requested together
    place             integer NOT NULL,
    name              text NOT NULL,
    arguments         text NOT NULL,
    outcome           text NOT NULL,                    -- what the model reads of it
    refused           boolean NOT NULL DEFAULT false,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, tool_call_id),
    FOREIGN KEY (tenant_id, answer_id) REFERENCES ai_answers ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
CREATE INDEX ai_tool_calls_of ON ai_tool_calls (tenant_id, conversation_id, at);
CREATE INDEX ai_tool_calls_answer ON ai_tool_calls (tenant_id, answer_id);

-- Conversations that went to people: one for each stretch in which they wait, which is an epoch of the conversation.
CREATE TABLE ai_hand_overs (
    tenant_id         text NOT NULL,
    conversation_id   uuid NOT NULL,
    epoch             bigint NOT NULL,
    cause             text NOT NULL CHECK (cause IN ('asked', 'model', 'failed', 'limit', 'prompt')),
    reason            text NOT NULL DEFAULT '',
    summary           text NOT NULL DEFAULT '',
    at                timestamptz NOT NULL DEFAULT now(),
    due_at            timestamptz NOT NULL,             -- when the client is told that nobody could take it yet
    overdue_at        timestamptz,                      -- when that was done
    PRIMARY KEY (tenant_id, conversation_id, epoch),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
CREATE INDEX ai_hand_overs_due ON ai_hand_overs (tenant_id, due_at) WHERE overdue_at IS NULL;
CREATE INDEX ai_hand_overs_at ON ai_hand_overs (tenant_id, at);

-- What a company's AI used on each day of its own time zone: what budgets are judged by.
CREATE TABLE ai_days (
    tenant_id         text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    day               date NOT NULL,
    answers           integer NOT NULL DEFAULT 0,
    prompt_tokens     bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ai_answers', 'ai_tool_calls', 'ai_hand_overs', 'ai_days'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON ai_answers, ai_hand_overs, ai_days TO gateway_app;
GRANT SELECT, INSERT ON ai_tool_calls TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ai_answers, ai_hand_overs, ai_days, ai_tool_calls TO gateway_engine;
