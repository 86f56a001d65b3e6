-- +goose Up
-- create index "operation_tenant_id_actor_id_created_at" to table: "operations"
CREATE INDEX "operation_tenant_id_actor_id_created_at" ON "operations" ("tenant_id", "actor_id", "created_at");
-- modify "tenants" table
ALTER TABLE "tenants" ADD COLUMN "brake_records" bigint NULL DEFAULT 1000, ADD COLUMN "brake_percent" bigint NULL DEFAULT 10, ADD COLUMN "brake_hour" bigint NULL DEFAULT 2000, ADD COLUMN "brake_day" bigint NULL DEFAULT 5000;

-- +goose Down
-- reverse: modify "tenants" table
ALTER TABLE "tenants" DROP COLUMN "brake_day", DROP COLUMN "brake_hour", DROP COLUMN "brake_percent", DROP COLUMN "brake_records";
-- reverse: create index "operation_tenant_id_actor_id_created_at" to table: "operations"
DROP INDEX "operation_tenant_id_actor_id_created_at";
