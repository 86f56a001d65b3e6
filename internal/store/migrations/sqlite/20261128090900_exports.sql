-- +goose Up
-- create "export_schedules" table
CREATE TABLE `export_schedules` (`id` text NOT NULL, `tenant_id` text NOT NULL, `record_type` text NOT NULL, `filter` text NULL, `states` json NOT NULL, `format` text NOT NULL, `encrypt_to` json NOT NULL, `reason` text NULL, `every` text NOT NULL, `keep` integer NOT NULL, `code` text NULL, `created_at` datetime NOT NULL, `last_run_at` datetime NULL, `next_run_at` datetime NULL, `removed_at` datetime NULL, `requested_by_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `export_schedules_users_requested_by` FOREIGN KEY (`requested_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
CREATE INDEX `exportschedule_tenant_id_id` ON `export_schedules` (`tenant_id`, `id`);
CREATE INDEX `exportschedule_next_run_at` ON `export_schedules` (`next_run_at`) WHERE next_run_at IS NOT NULL;
-- create "exports" table
CREATE TABLE `exports` (`id` text NOT NULL, `tenant_id` text NOT NULL, `record_type` text NOT NULL, `filter` text NULL, `states` json NOT NULL, `format` text NOT NULL, `encrypt_to` json NOT NULL, `reason` text NULL, `status` text NOT NULL DEFAULT ('PENDING'), `rows` integer NOT NULL DEFAULT (0), `manifest` text NULL, `manifest_sha256` text NULL, `complete` bool NOT NULL DEFAULT (false), `code` text NULL, `attempt` integer NOT NULL DEFAULT (0), `blob_id` text NULL, `created_at` datetime NOT NULL, `worked_at` datetime NULL, `finished_at` datetime NULL, `expires_at` datetime NULL, `downloaded_at` datetime NULL, `requested_by_id` text NOT NULL, `schedule_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `exports_users_requested_by` FOREIGN KEY (`requested_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `exports_export_schedules_schedule` FOREIGN KEY (`schedule_id`) REFERENCES `export_schedules` (`id`) ON DELETE RESTRICT);
CREATE INDEX `export_tenant_id_id` ON `exports` (`tenant_id`, `id`);
CREATE INDEX `export_schedule_id` ON `exports` (`schedule_id`);
CREATE INDEX `export_worked_at` ON `exports` (`worked_at`) WHERE worked_at IS NOT NULL;
CREATE INDEX `export_expires_at` ON `exports` (`expires_at`) WHERE expires_at IS NOT NULL;
-- the records in an export, each as it was: version, and a keyed hash of its content; read by internal/record, written by internal/export
CREATE TABLE `export_rows` (`tenant_id` text NOT NULL, `export_id` text NOT NULL, `record_id` text NOT NULL, `version` integer NOT NULL, `content` blob NOT NULL, PRIMARY KEY (`export_id`, `record_id`)) WITHOUT ROWID;
CREATE INDEX `export_rows_record` ON `export_rows` (`tenant_id`, `record_id`);
-- what else there is to know
ALTER TABLE `tenants` ADD COLUMN `export_days` integer NOT NULL DEFAULT (7);
ALTER TABLE `tenants` ADD COLUMN `export_before` text NULL;
ALTER TABLE `tombstones` ADD COLUMN `export_manifest` text NULL;

-- +goose Down
ALTER TABLE `tombstones` DROP COLUMN `export_manifest`;
ALTER TABLE `tenants` DROP COLUMN `export_before`;
ALTER TABLE `tenants` DROP COLUMN `export_days`;
DROP TABLE `export_rows`;
DROP TABLE `exports`;
DROP TABLE `export_schedules`;
