-- +goose Up
-- modify "tenants" table
ALTER TABLE `tenants` ADD COLUMN `hold_release_days` integer NOT NULL DEFAULT 30;
-- create "legal_holds" table
CREATE TABLE `legal_holds` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, `reason` text NOT NULL, `block_delete` bool NOT NULL DEFAULT (false), `freeze` bool NOT NULL DEFAULT (false), `placed_at` datetime NOT NULL, `released_at` datetime NULL, `release_reason` text NULL, `placed_by_id` text NULL, `released_by_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `legal_holds_users_placed_by` FOREIGN KEY (`placed_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `legal_holds_users_released_by` FOREIGN KEY (`released_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "legalhold_tenant_id_id" to table: "legal_holds"
CREATE INDEX `legalhold_tenant_id_id` ON `legal_holds` (`tenant_id`, `id`);
-- create "legal_hold_records" table
CREATE TABLE `legal_hold_records` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `record_id` text NOT NULL, `hold_id` text NOT NULL, CONSTRAINT `legal_hold_records_legal_holds_hold` FOREIGN KEY (`hold_id`) REFERENCES `legal_holds` (`id`) ON DELETE RESTRICT);
-- create index "legalholdrecord_hold_id_record_id" to table: "legal_hold_records"
CREATE UNIQUE INDEX `legalholdrecord_hold_id_record_id` ON `legal_hold_records` (`hold_id`, `record_id`);
-- create index "legalholdrecord_record_id" to table: "legal_hold_records"
CREATE INDEX `legalholdrecord_record_id` ON `legal_hold_records` (`record_id`);

-- +goose Down
-- reverse: create index "legalholdrecord_record_id" to table: "legal_hold_records"
DROP INDEX `legalholdrecord_record_id`;
-- reverse: create index "legalholdrecord_hold_id_record_id" to table: "legal_hold_records"
DROP INDEX `legalholdrecord_hold_id_record_id`;
-- reverse: create "legal_hold_records" table
DROP TABLE `legal_hold_records`;
-- reverse: create index "legalhold_tenant_id_id" to table: "legal_holds"
DROP INDEX `legalhold_tenant_id_id`;
-- reverse: create "legal_holds" table
DROP TABLE `legal_holds`;
-- reverse: modify "tenants" table
ALTER TABLE `tenants` DROP COLUMN `hold_release_days`;
