-- +goose Up
-- add column to table: "operations"
ALTER TABLE `operations` ADD COLUMN `request` blob NULL;
-- create index "operation_run_at" to table: "operations"
CREATE INDEX `operation_run_at` ON `operations` (`run_at`) WHERE request IS NOT NULL;

-- +goose Down
-- reverse: create index "operation_run_at" to table: "operations"
DROP INDEX `operation_run_at`;
-- reverse: add column to table: "operations"
ALTER TABLE `operations` DROP COLUMN `request`;
