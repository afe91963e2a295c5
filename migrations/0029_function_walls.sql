-- Functions find what they name in our schema alone, whoever calls them with whichever search_path, and nobody may call one
-- to whom that was not granted.

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT p.oid::regprocedure AS name, p.proacl IS NULL OR EXISTS (
                   SELECT FROM aclexplode(p.proacl) x WHERE x.grantee = 0 AND x.privilege_type = 'EXECUTE') AS open,
               p.prorettype = 'trigger'::regtype AS trigger
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = public, pg_temp', one.name);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one.name);
        -- A trigger needs no right to its function; what triggers call is called as whoever made the change.
        IF one.open AND NOT one.trigger THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO gateway_app, gateway_engine', one.name);
        END IF;
    END LOOP;
END $$;
