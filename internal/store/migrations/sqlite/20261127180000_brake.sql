-- +goose Up
-- create index "operation_tenant_id_actor_id_created_at" to table: "operations"
CREATE INDEX `operation_tenant_id_actor_id_created_at` ON `operations` (`tenant_id`, `actor_id`, `created_at`);
-- add columns to table: "tenants"; it is not copied, because everything refers to it
ALTER TABLE `tenants` ADD COLUMN `brake_records` integer NULL DEFAULT 1000;
ALTER TABLE `tenants` ADD COLUMN `brake_percent` integer NULL DEFAULT 10;
ALTER TABLE `tenants` ADD COLUMN `brake_hour` integer NULL DEFAULT 2000;
ALTER TABLE `tenants` ADD COLUMN `brake_day` integer NULL DEFAULT 5000;

-- +goose Down
-- reverse: add columns to table: "tenants"
ALTER TABLE `tenants` DROP COLUMN `brake_day`;
ALTER TABLE `tenants` DROP COLUMN `brake_hour`;
ALTER TABLE `tenants` DROP COLUMN `brake_percent`;
ALTER TABLE `tenants` DROP COLUMN `brake_records`;
-- reverse: create index "operation_tenant_id_actor_id_created_at" to table: "operations"
DROP INDEX `operation_tenant_id_actor_id_created_at`;
