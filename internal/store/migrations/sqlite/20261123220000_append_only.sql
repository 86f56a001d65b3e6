-- +goose Up
-- The audit log, tombstones and given numbers are only ever added to.
-- +goose StatementBegin
CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tombstones_no_update BEFORE UPDATE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tombstones_no_delete BEFORE DELETE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER record_numbers_no_update BEFORE UPDATE ON record_numbers BEGIN SELECT RAISE(ABORT, 'record_numbers is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER record_numbers_no_delete BEFORE DELETE ON record_numbers BEGIN SELECT RAISE(ABORT, 'record_numbers is append-only'); END;
-- +goose StatementEnd
-- A row of a record type is removed by purge alone, and purge takes retired rows only.
-- +goose StatementBegin
CREATE TRIGGER contacts_no_live_delete BEFORE DELETE ON contacts WHEN OLD.retired_at IS NULL BEGIN SELECT RAISE(ABORT, 'a live record cannot be removed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER customers_no_live_delete BEFORE DELETE ON customers WHEN OLD.retired_at IS NULL BEGIN SELECT RAISE(ABORT, 'a live record cannot be removed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER deals_no_live_delete BEFORE DELETE ON deals WHEN OLD.retired_at IS NULL BEGIN SELECT RAISE(ABORT, 'a live record cannot be removed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER messages_no_live_delete BEFORE DELETE ON messages WHEN OLD.retired_at IS NULL BEGIN SELECT RAISE(ABORT, 'a live record cannot be removed'); END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_events_no_update;
DROP TRIGGER audit_events_no_delete;
DROP TRIGGER tombstones_no_update;
DROP TRIGGER tombstones_no_delete;
DROP TRIGGER record_numbers_no_update;
DROP TRIGGER record_numbers_no_delete;
DROP TRIGGER contacts_no_live_delete;
DROP TRIGGER customers_no_live_delete;
DROP TRIGGER deals_no_live_delete;
DROP TRIGGER messages_no_live_delete;
