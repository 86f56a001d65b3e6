-- +goose Up
-- Whoever changes a policy moves its head on in the same transaction. A trigger tells of it for every writer,
-- one at a prompt included; PostgreSQL sends what it says at commit, and not if there is none.
-- +goose StatementBegin
CREATE FUNCTION lethe_policy_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('lethe_policy', OLD.tenant_id::text);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('lethe_policy', NEW.tenant_id::text);
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER policy_heads_changed AFTER INSERT OR UPDATE OR DELETE ON policy_heads FOR EACH ROW EXECUTE FUNCTION lethe_policy_changed();

-- +goose Down
DROP TRIGGER policy_heads_changed ON policy_heads;
DROP FUNCTION lethe_policy_changed();
