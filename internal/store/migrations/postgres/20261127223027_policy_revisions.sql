-- +goose Up
-- modify "policy_heads" table
ALTER TABLE "policy_heads" ADD COLUMN "duties" jsonb NULL;
-- create "policy_tests" table
CREATE TABLE "policy_tests" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "name" character varying NOT NULL, "question" bytea NOT NULL, PRIMARY KEY ("id"));
-- create index "policytest_tenant_id_name" to table: "policy_tests"
CREATE UNIQUE INDEX "policytest_tenant_id_name" ON "policy_tests" ("tenant_id", "name");
-- create "policy_revisions" table
CREATE TABLE "policy_revisions" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "version" bigint NOT NULL, "message" text NOT NULL DEFAULT '', "rows" text NOT NULL, "duties" jsonb NULL, "created_at" timestamptz NOT NULL, "author_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "policy_revisions_users_author" FOREIGN KEY ("author_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
-- create index "policyrevision_tenant_id_version" to table: "policy_revisions"
CREATE UNIQUE INDEX "policyrevision_tenant_id_version" ON "policy_revisions" ("tenant_id", "version");
-- A revision is what happened; it is only ever added.
CREATE TRIGGER policy_revisions_append_only BEFORE UPDATE OR DELETE ON policy_revisions FOR EACH ROW EXECUTE FUNCTION lethe_append_only();
CREATE TRIGGER policy_revisions_no_truncate BEFORE TRUNCATE ON policy_revisions FOR EACH STATEMENT EXECUTE FUNCTION lethe_append_only();

-- +goose Down
-- reverse: create index "policyrevision_tenant_id_version" to table: "policy_revisions"
DROP INDEX "policyrevision_tenant_id_version";
-- reverse: create "policy_revisions" table
DROP TABLE "policy_revisions";
-- reverse: create index "policytest_tenant_id_name" to table: "policy_tests"
DROP INDEX "policytest_tenant_id_name";
-- reverse: create "policy_tests" table
DROP TABLE "policy_tests";
-- reverse: modify "policy_heads" table
ALTER TABLE "policy_heads" DROP COLUMN "duties";
