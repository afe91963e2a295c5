-- Dead letters that lead back to their post, one for each; and deliveries in trouble found without reading the rest.

ALTER TABLE dead_letters ADD COLUMN journal_id bigint;      -- the post it came from, which can be heard again
CREATE UNIQUE INDEX dead_letters_post ON dead_letters (tenant_id, journal_id) WHERE journal_id IS NOT NULL;

CREATE INDEX deliveries_troubled ON deliveries (tenant_id, delivery_id) WHERE state IN ('failed', 'doubtful', 'expired');

-- In the order in which they are claimed, so that a claim reads as many rows of a backlog as it takes.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (tenant_id, integration_type, run_at, delivery_id) WHERE state = 'pending';

-- What waits may grow a hundredfold in a minute, while a tenth of the table is days of deliveries.
ALTER TABLE deliveries SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
