-- +goose Up
-- create "export_schedules" table
CREATE TABLE "export_schedules" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "record_type" character varying NOT NULL, "filter" text NULL, "states" jsonb NOT NULL, "format" character varying NOT NULL, "encrypt_to" jsonb NOT NULL, "reason" text NULL, "every" character varying NOT NULL, "keep" bigint NOT NULL, "code" character varying NULL, "created_at" timestamptz NOT NULL, "last_run_at" timestamptz NULL, "next_run_at" timestamptz NULL, "removed_at" timestamptz NULL, "requested_by_id" uuid NOT NULL, PRIMARY KEY ("id"), CONSTRAINT "export_schedules_users_requested_by" FOREIGN KEY ("requested_by_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
CREATE INDEX "exportschedule_tenant_id_id" ON "export_schedules" ("tenant_id", "id");
CREATE INDEX "exportschedule_next_run_at" ON "export_schedules" ("next_run_at") WHERE (next_run_at IS NOT NULL);
-- create "exports" table
CREATE TABLE "exports" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "record_type" character varying NOT NULL, "filter" text NULL, "states" jsonb NOT NULL, "format" character varying NOT NULL, "encrypt_to" jsonb NOT NULL, "reason" text NULL, "status" character varying NOT NULL DEFAULT 'PENDING', "rows" bigint NOT NULL DEFAULT 0, "manifest" text NULL, "manifest_sha256" character varying NULL, "complete" boolean NOT NULL DEFAULT false, "code" character varying NULL, "attempt" bigint NOT NULL DEFAULT 0, "blob_id" uuid NULL, "created_at" timestamptz NOT NULL, "worked_at" timestamptz NULL, "finished_at" timestamptz NULL, "expires_at" timestamptz NULL, "downloaded_at" timestamptz NULL, "requested_by_id" uuid NOT NULL, "schedule_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "exports_export_schedules_schedule" FOREIGN KEY ("schedule_id") REFERENCES "export_schedules" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "exports_users_requested_by" FOREIGN KEY ("requested_by_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
CREATE INDEX "export_tenant_id_id" ON "exports" ("tenant_id", "id");
CREATE INDEX "export_schedule_id" ON "exports" ("schedule_id");
CREATE INDEX "export_worked_at" ON "exports" ("worked_at") WHERE (worked_at IS NOT NULL);
CREATE INDEX "export_expires_at" ON "exports" ("expires_at") WHERE (expires_at IS NOT NULL);
-- the records in an export, each as it was: version, and a keyed hash of its content; read by internal/record, written by internal/export
CREATE TABLE "export_rows" ("tenant_id" uuid NOT NULL, "export_id" uuid NOT NULL, "record_id" uuid NOT NULL, "version" bigint NOT NULL, "content" bytea NOT NULL, PRIMARY KEY ("export_id", "record_id"));
CREATE INDEX "export_rows_record" ON "export_rows" ("tenant_id", "record_id");
-- what else there is to know
ALTER TABLE "tenants" ADD COLUMN "export_days" bigint NOT NULL DEFAULT 7, ADD COLUMN "export_before" text NULL;
ALTER TABLE "tombstones" ADD COLUMN "export_manifest" character varying NULL;

-- +goose Down
ALTER TABLE "tombstones" DROP COLUMN "export_manifest";
ALTER TABLE "tenants" DROP COLUMN "export_before", DROP COLUMN "export_days";
DROP TABLE "export_rows";
DROP TABLE "exports";
DROP TABLE "export_schedules";
