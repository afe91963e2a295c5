-- Bounds on what grows: the audit trail is pruned after a year, and orders that wait are found without reading all others.

-- The engine may remove what is old, and cannot shorten the trail otherwise.
GRANT DELETE ON audit TO gateway_engine;
CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.at > now() - interval '364 days' THEN
        RAISE EXCEPTION 'the audit trail is kept for a year';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER kept BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_kept();

CREATE INDEX call_orders_asked ON call_orders (tenant_id, asked_at) WHERE state = 'asked';
