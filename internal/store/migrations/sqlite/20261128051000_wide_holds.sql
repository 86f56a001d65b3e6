-- +goose Up
-- add columns to table: "tenants"; it is not copied, because everything refers to it
ALTER TABLE `tenants` ADD COLUMN `purge_day` integer NULL DEFAULT 50000;
ALTER TABLE `tenants` ADD COLUMN `settings_version` integer NOT NULL DEFAULT 1;
-- create index "operation_tenant_id_verb_finished_at" to table: "operations"
CREATE INDEX `operation_tenant_id_verb_finished_at` ON `operations` (`tenant_id`, `verb`, `finished_at`);
-- modify "legal_holds" table
ALTER TABLE `legal_holds` ADD COLUMN `filter_type` text NULL;
ALTER TABLE `legal_holds` ADD COLUMN `filter` text NULL;
ALTER TABLE `legal_holds` ADD COLUMN `wide` bool NULL;
-- create index "legalhold_tenant_id" to table: "legal_holds"
CREATE INDEX `legalhold_tenant_id` ON `legal_holds` (`tenant_id`) WHERE wide IS NOT NULL;
-- modify "legal_hold_records" table
ALTER TABLE `legal_hold_records` ADD COLUMN `person_id` text NULL;
-- create index "legalholdrecord_person_id" to table: "legal_hold_records"
CREATE INDEX `legalholdrecord_person_id` ON `legal_hold_records` (`person_id`) WHERE person_id IS NOT NULL;

-- +goose Down
-- reverse: create index "legalholdrecord_person_id" to table: "legal_hold_records"
DROP INDEX `legalholdrecord_person_id`;
-- reverse: modify "legal_hold_records" table
ALTER TABLE `legal_hold_records` DROP COLUMN `person_id`;
-- reverse: create index "legalhold_tenant_id" to table: "legal_holds"
DROP INDEX `legalhold_tenant_id`;
-- reverse: modify "legal_holds" table
ALTER TABLE `legal_holds` DROP COLUMN `wide`;
ALTER TABLE `legal_holds` DROP COLUMN `filter`;
ALTER TABLE `legal_holds` DROP COLUMN `filter_type`;
-- reverse: create index "operation_tenant_id_verb_finished_at" to table: "operations"
DROP INDEX `operation_tenant_id_verb_finished_at`;
-- reverse: modify "tenants" table
ALTER TABLE `tenants` DROP COLUMN `settings_version`;
ALTER TABLE `tenants` DROP COLUMN `purge_day`;
