-- Pages need no more than this. The chain of the audit is moved on by a trigger that acts as whoever adds a line: where the chain
-- begins is the engine's alone, which prunes. Troubles and letters on their way are the engine's altogether.
REVOKE INSERT, UPDATE ON audit_chains FROM gateway_app;
GRANT INSERT (tenant_id), UPDATE (position, hash) ON audit_chains TO gateway_app;
REVOKE SELECT ON notices, mails FROM gateway_app;
