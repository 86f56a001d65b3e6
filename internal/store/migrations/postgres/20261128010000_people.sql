-- +goose Up
-- modify "api_tokens" table
ALTER TABLE "api_tokens" ADD COLUMN "name" character varying NULL;
-- modify "users" table
ALTER TABLE "users" ADD COLUMN "external_subject" character varying NULL, ADD COLUMN "last_seen_at" timestamptz NULL, ADD COLUMN "version" bigint NOT NULL DEFAULT 1;
-- create index "user_tenant_id_external_subject" to table: "users"
CREATE UNIQUE INDEX "user_tenant_id_external_subject" ON "users" ("tenant_id", "external_subject");

-- +goose Down
-- reverse: create index "user_tenant_id_external_subject" to table: "users"
DROP INDEX "user_tenant_id_external_subject";
-- reverse: modify "users" table
ALTER TABLE "users" DROP COLUMN "version", DROP COLUMN "last_seen_at", DROP COLUMN "external_subject";
-- reverse: modify "api_tokens" table
ALTER TABLE "api_tokens" DROP COLUMN "name";
