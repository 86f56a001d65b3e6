-- +goose Up
-- add column to table: "operations"
ALTER TABLE `operations` ADD COLUMN `request` blob NULL;
-- create index "operation_run_at" to table: "operations"
CREATE INDEX `operation_run_at` ON `operations` (`run_at`) WHERE request IS NOT NULL;
-- drop index "operation_tenant_id_actor_id_created_at" from table: "operations"
DROP INDEX `operation_tenant_id_actor_id_created_at`;
-- create index "operation_tenant_id_actor_id_finished_at" to table: "operations"
CREATE INDEX `operation_tenant_id_actor_id_finished_at` ON `operations` (`tenant_id`, `actor_id`, `finished_at`);

-- +goose Down
-- reverse: create index "operation_tenant_id_actor_id_finished_at" to table: "operations"
DROP INDEX `operation_tenant_id_actor_id_finished_at`;
-- reverse: drop index "operation_tenant_id_actor_id_created_at" from table: "operations"
CREATE INDEX `operation_tenant_id_actor_id_created_at` ON `operations` (`tenant_id`, `actor_id`, `created_at`);
-- reverse: create index "operation_run_at" to table: "operations"
DROP INDEX `operation_run_at`;
-- reverse: add column to table: "operations"
ALTER TABLE `operations` DROP COLUMN `request`;
