-- +goose Up
-- add column "duties" to table: "policy_heads"
ALTER TABLE `policy_heads` ADD COLUMN `duties` json NULL;
-- create "policy_revisions" table
CREATE TABLE `policy_revisions` (`id` text NOT NULL, `tenant_id` text NOT NULL, `version` integer NOT NULL, `message` text NOT NULL DEFAULT (''), `rows` text NOT NULL, `duties` json NULL, `created_at` datetime NOT NULL, `author_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `policy_revisions_users_author` FOREIGN KEY (`author_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "policyrevision_tenant_id_version" to table: "policy_revisions"
CREATE UNIQUE INDEX `policyrevision_tenant_id_version` ON `policy_revisions` (`tenant_id`, `version`);
-- create "policy_tests" table
CREATE TABLE `policy_tests` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, `question` blob NOT NULL, PRIMARY KEY (`id`));
-- create index "policytest_tenant_id_name" to table: "policy_tests"
CREATE UNIQUE INDEX `policytest_tenant_id_name` ON `policy_tests` (`tenant_id`, `name`);
-- A revision is what happened; it is only ever added.
-- +goose StatementBegin
CREATE TRIGGER policy_revisions_no_update BEFORE UPDATE ON policy_revisions BEGIN SELECT RAISE(ABORT, 'policy_revisions is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER policy_revisions_no_delete BEFORE DELETE ON policy_revisions BEGIN SELECT RAISE(ABORT, 'policy_revisions is append-only'); END;
-- +goose StatementEnd

-- +goose Down
-- reverse: create index "policytest_tenant_id_name" to table: "policy_tests"
DROP INDEX `policytest_tenant_id_name`;
-- reverse: create "policy_tests" table
DROP TABLE `policy_tests`;
-- reverse: create index "policyrevision_tenant_id_version" to table: "policy_revisions"
DROP INDEX `policyrevision_tenant_id_version`;
-- reverse: create "policy_revisions" table
DROP TABLE `policy_revisions`;
-- reverse: add column "duties" to table: "policy_heads"
ALTER TABLE `policy_heads` DROP COLUMN `duties`;
