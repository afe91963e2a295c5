-- A stream of changes that was interrupted goes on where it was: events of a tenant by when they were stored.
CREATE INDEX call_events_recorded ON call_events (tenant_id, recorded_at);
