-- +goose Up
-- what happened and was told to nobody yet, and what goes with it; written by internal/notify alone
CREATE TABLE "notify_facts" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "at" timestamptz NOT NULL, "action" text NOT NULL, "outcome" text NOT NULL, "actor_id" uuid NULL, "operation_id" uuid NULL, "subject_id" uuid NULL, "about_id" uuid NULL, "count" bigint NOT NULL, "records" text NULL, "weighed" boolean NOT NULL, PRIMARY KEY ("id"));
CREATE TABLE "notification_records" ("notification_id" uuid NOT NULL, "record_id" uuid NOT NULL, PRIMARY KEY ("notification_id", "record_id"));
CREATE INDEX "notification_records_record_id" ON "notification_records" ("record_id");
CREATE TABLE "follows" ("tenant_id" uuid NOT NULL, "user_id" uuid NOT NULL, "record_id" uuid NOT NULL, PRIMARY KEY ("record_id", "user_id"));
CREATE INDEX "follows_user_id" ON "follows" ("user_id");
CREATE TABLE "department_members" ("department_id" uuid NOT NULL, "user_id" uuid NOT NULL, PRIMARY KEY ("department_id", "user_id"));
CREATE TABLE "purge_notices" ("record_id" uuid NOT NULL, "days" bigint NOT NULL, "purge_after" timestamptz NOT NULL, "tenant_id" uuid NOT NULL, "record_type" text NOT NULL, "owner_id" uuid NULL, "fact_id" uuid NOT NULL, PRIMARY KEY ("record_id", "days", "purge_after"));
CREATE INDEX "purge_notices_fact_id" ON "purge_notices" ("fact_id");
CREATE TABLE "alert_signals" ("tenant_id" uuid NOT NULL, "signal" text NOT NULL, "actor_id" uuid NOT NULL, "at" timestamptz NOT NULL, "count" bigint NOT NULL);
CREATE INDEX "alert_signals_at" ON "alert_signals" ("tenant_id", "signal", "at");
CREATE TABLE "alert_marks" ("rule_id" uuid NOT NULL, "actor_id" uuid NOT NULL, "at" timestamptz NOT NULL, PRIMARY KEY ("rule_id", "actor_id"));
CREATE TABLE "notify_marks" ("tenant_id" uuid NOT NULL, "name" text NOT NULL, "at" timestamptz NOT NULL, PRIMARY KEY ("tenant_id", "name"));
-- create "alert_rules" table
CREATE TABLE "alert_rules" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "name" character varying NOT NULL, "kind" character varying NOT NULL, "count" bigint NOT NULL DEFAULT 1, "minutes" bigint NOT NULL DEFAULT 60, "verbs" jsonb NOT NULL, "from_hour" bigint NOT NULL DEFAULT 8, "to_hour" bigint NOT NULL DEFAULT 18, "zone" character varying NOT NULL DEFAULT 'UTC', "weekdays" jsonb NOT NULL, "departments" jsonb NOT NULL, "roles" jsonb NOT NULL, "enabled" boolean NOT NULL DEFAULT true, "version" bigint NOT NULL DEFAULT 1, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "removed_at" timestamptz NULL, PRIMARY KEY ("id"));
-- create index "alertrule_tenant_id_id"
CREATE INDEX "alertrule_tenant_id_id" ON "alert_rules" ("tenant_id", "id");
-- create "webhooks" table
CREATE TABLE "webhooks" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "url" text NOT NULL, "name" character varying NOT NULL DEFAULT '', "kinds" jsonb NOT NULL, "types" jsonb NOT NULL, "enabled" boolean NOT NULL DEFAULT true, "version" bigint NOT NULL DEFAULT 1, "secret" bytea NOT NULL, "previous_secret" bytea NULL, "previous_secret_until" timestamptz NULL, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "failing_since" timestamptz NULL, "removed_at" timestamptz NULL, "created_by_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "webhooks_users_created_by" FOREIGN KEY ("created_by_id") REFERENCES "users" ("id") ON DELETE RESTRICT);
-- create index "webhook_tenant_id_id"
CREATE INDEX "webhook_tenant_id_id" ON "webhooks" ("tenant_id", "id");
-- create "departments" table
CREATE TABLE "departments" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "name" character varying NOT NULL, "address" character varying NOT NULL DEFAULT '', "kinds" jsonb NOT NULL, "types" jsonb NOT NULL, "version" bigint NOT NULL DEFAULT 1, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "webhook_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "departments_webhooks_webhook" FOREIGN KEY ("webhook_id") REFERENCES "webhooks" ("id") ON DELETE RESTRICT);
-- create index "department_tenant_id_id"
CREATE INDEX "department_tenant_id_id" ON "departments" ("tenant_id", "id");
-- create "notifications" table
CREATE TABLE "notifications" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "fact_id" uuid NOT NULL, "user_id" uuid NOT NULL, "kind" character varying NOT NULL, "at" timestamptz NOT NULL, "subject_id" uuid NULL, "days" bigint NULL, "count" bigint NULL, "records" bigint NOT NULL DEFAULT 0, "read_at" timestamptz NULL, "operation_id" uuid NULL, "approval_id" uuid NULL, "about_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "notifications_approvals_approval" FOREIGN KEY ("approval_id") REFERENCES "approvals" ("id") ON DELETE RESTRICT, CONSTRAINT "notifications_users_about" FOREIGN KEY ("about_id") REFERENCES "users" ("id") ON DELETE RESTRICT);
-- create index "notification_user_id_at"
CREATE INDEX "notification_user_id_at" ON "notifications" ("user_id", "at");
-- create index "notification_fact_id_user_id"
CREATE UNIQUE INDEX "notification_fact_id_user_id" ON "notifications" ("fact_id", "user_id");
-- create index "notification_at"
CREATE INDEX "notification_at" ON "notifications" ("at");
-- create "webhook_deliveries" table
CREATE TABLE "webhook_deliveries" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "event_type" character varying NOT NULL, "body" bytea NOT NULL, "status" character varying NOT NULL, "attempts" bigint NOT NULL DEFAULT 0, "created_at" timestamptz NOT NULL, "next_at" timestamptz NULL, "delivered_at" timestamptz NULL, "status_code" bigint NULL, "failure" character varying NULL, "webhook_id" uuid NOT NULL, PRIMARY KEY ("id"), CONSTRAINT "webhook_deliveries_webhooks_webhook" FOREIGN KEY ("webhook_id") REFERENCES "webhooks" ("id") ON DELETE RESTRICT);
-- create index "webhookdelivery_webhook_id_id"
CREATE INDEX "webhookdelivery_webhook_id_id" ON "webhook_deliveries" ("webhook_id", "id");
-- create index "webhookdelivery_webhook_id_next_at"
CREATE INDEX "webhookdelivery_webhook_id_next_at" ON "webhook_deliveries" ("webhook_id", "next_at") WHERE next_at IS NOT NULL;
-- create index "webhookdelivery_created_at"
CREATE INDEX "webhookdelivery_created_at" ON "webhook_deliveries" ("created_at");

-- +goose Down
DROP INDEX "webhookdelivery_created_at";
DROP INDEX "webhookdelivery_webhook_id_next_at";
DROP INDEX "webhookdelivery_webhook_id_id";
DROP TABLE "webhook_deliveries";
DROP INDEX "notification_at";
DROP INDEX "notification_fact_id_user_id";
DROP INDEX "notification_user_id_at";
DROP TABLE "notifications";
DROP INDEX "department_tenant_id_id";
DROP TABLE "departments";
DROP INDEX "webhook_tenant_id_id";
DROP TABLE "webhooks";
DROP INDEX "alertrule_tenant_id_id";
DROP TABLE "alert_rules";
DROP TABLE "notify_marks";
DROP TABLE "alert_marks";
DROP INDEX "alert_signals_at";
DROP TABLE "alert_signals";
DROP INDEX "purge_notices_fact_id";
DROP TABLE "purge_notices";
DROP TABLE "department_members";
DROP INDEX "follows_user_id";
DROP TABLE "follows";
DROP INDEX "notification_records_record_id";
DROP TABLE "notification_records";
DROP TABLE "notify_facts";
