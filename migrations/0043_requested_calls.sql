-- A call that a user of an outside system requests has ids there already: they are stored in the commit that admits its order, which
-- is the tenant's own. What is stored already stays as it is: no right to change it.
GRANT INSERT ON external_ids TO gateway_app;
