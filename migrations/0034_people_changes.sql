-- People are part of what a company's clients hold: adding, changing or removing somebody raises the tenant's version, as a change
-- of its configuration does. Signing in, a password or a language is none; an operator belongs to no company.

CREATE TRIGGER people_added AFTER INSERT ON users FOR EACH ROW
    WHEN (NEW.tenant_id IS NOT NULL) EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER people_changed AFTER UPDATE OF email, role, name, phones ON users FOR EACH ROW
    WHEN (NEW.tenant_id IS NOT NULL
          AND (OLD.email, OLD.role, OLD.name, OLD.phones) IS DISTINCT FROM (NEW.email, NEW.role, NEW.name, NEW.phones))
    EXECUTE FUNCTION configuration_changed();
CREATE TRIGGER people_removed AFTER DELETE ON users FOR EACH ROW
    WHEN (OLD.tenant_id IS NOT NULL) EXECUTE FUNCTION configuration_changed();
