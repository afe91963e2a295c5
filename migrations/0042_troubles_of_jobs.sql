-- What a job came to counts among what is known of an integration: a token that ends, news that come no more. When it ran tells whether
-- that was with the settings of now.

ALTER TABLE integration_jobs ADD COLUMN tried_at timestamptz;
