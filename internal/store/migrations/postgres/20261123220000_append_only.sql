-- +goose Up
-- The audit log, tombstones and given numbers are only ever added to.
-- +goose StatementBegin
CREATE FUNCTION lethe_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
-- +goose StatementEnd
-- A row of a record type is removed by purge alone, and purge takes retired rows only.
-- +goose StatementBegin
CREATE FUNCTION lethe_no_live_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a live record cannot be removed' USING ERRCODE = 'check_violation';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER tombstones_append_only BEFORE UPDATE OR DELETE ON tombstones FOR EACH ROW EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER tombstones_no_truncate BEFORE TRUNCATE ON tombstones FOR EACH STATEMENT EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER record_numbers_append_only BEFORE UPDATE OR DELETE ON record_numbers FOR EACH ROW EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER record_numbers_no_truncate BEFORE TRUNCATE ON record_numbers FOR EACH STATEMENT EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER contacts_no_live_delete BEFORE DELETE ON contacts FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER customers_no_live_delete BEFORE DELETE ON customers FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER deals_no_live_delete BEFORE DELETE ON deals FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER messages_no_live_delete BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();

-- +goose Down
DROP TRIGGER audit_events_no_truncate ON audit_events;
DROP TRIGGER audit_events_append_only ON audit_events;
DROP TRIGGER tombstones_no_truncate ON tombstones;
DROP TRIGGER tombstones_append_only ON tombstones;
DROP TRIGGER record_numbers_no_truncate ON record_numbers;
DROP TRIGGER record_numbers_append_only ON record_numbers;
DROP TRIGGER contacts_no_live_delete ON contacts;
DROP TRIGGER customers_no_live_delete ON customers;
DROP TRIGGER deals_no_live_delete ON deals;
DROP TRIGGER messages_no_live_delete ON messages;
DROP FUNCTION lethe_no_live_delete();
DROP FUNCTION lethe_append_only();
