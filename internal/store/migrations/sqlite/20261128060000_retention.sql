-- +goose Up
-- create "retention_rules" table
CREATE TABLE `retention_rules` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, `record_type` text NOT NULL, `filter` text NULL, `comparisons` integer NOT NULL DEFAULT (0), `candidates` text NULL, `basis` text NOT NULL, `length` integer NOT NULL, `unit` text NOT NULL, `action` text NOT NULL, `every_hours` integer NOT NULL DEFAULT (24), `reason` text NOT NULL, `approval` bool NOT NULL DEFAULT (false), `enabled` bool NOT NULL DEFAULT (true), `version` integer NOT NULL DEFAULT (1), `locked_until` datetime NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `removed_at` datetime NULL, `dry_run_at` datetime NULL, `last_run_at` datetime NULL, `next_run_at` datetime NULL, `dry_run` blob NULL, `changed_by_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `retention_rules_users_changed_by` FOREIGN KEY (`changed_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "retentionrule_tenant_id_id" to table: "retention_rules"
CREATE INDEX `retentionrule_tenant_id_id` ON `retention_rules` (`tenant_id`, `id`);
-- create "retention_waits" table
CREATE TABLE `retention_waits` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `record_id` text NOT NULL, `code` text NOT NULL, `tries` integer NOT NULL DEFAULT (1), `until` datetime NOT NULL, `rule_id` text NOT NULL, CONSTRAINT `retention_waits_retention_rules_rule` FOREIGN KEY (`rule_id`) REFERENCES `retention_rules` (`id`) ON DELETE RESTRICT);
-- create index "retentionwait_rule_id_record_id" to table: "retention_waits"
CREATE UNIQUE INDEX `retentionwait_rule_id_record_id` ON `retention_waits` (`rule_id`, `record_id`);

-- +goose Down
-- reverse: create index "retentionwait_rule_id_record_id" to table: "retention_waits"
DROP INDEX `retentionwait_rule_id_record_id`;
-- reverse: create "retention_waits" table
DROP TABLE `retention_waits`;
-- reverse: create index "retentionrule_tenant_id_id" to table: "retention_rules"
DROP INDEX `retentionrule_tenant_id_id`;
-- reverse: create "retention_rules" table
DROP TABLE `retention_rules`;
