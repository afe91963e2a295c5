-- Why an attempt failed, in the one list of codes that logs, programs and pages share (VALIDATION_ERROR, AUTH_FAILED, …); null where
-- it did not, and for rows of before.
ALTER TABLE integration_logs ADD COLUMN code text;
