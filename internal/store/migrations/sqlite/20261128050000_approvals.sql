-- +goose Up
-- create "approval_rules" table
CREATE TABLE `approval_rules` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `name` text NOT NULL, `subject` text NOT NULL, `record_type` text NULL, `condition` text NULL, `over` integer NOT NULL DEFAULT 0, `by_filter` bool NOT NULL DEFAULT (false), `open_deals` bool NOT NULL DEFAULT (false), `approvals` integer NOT NULL DEFAULT 1, `role` text NOT NULL DEFAULT (''), `request_hours` integer NOT NULL DEFAULT 72, `use_hours` integer NOT NULL DEFAULT 24, `execution` text NOT NULL DEFAULT ('AUTOMATIC'), `enabled` bool NOT NULL DEFAULT (true));
-- create index "approvalrule_tenant_id_name" to table: "approval_rules"
CREATE UNIQUE INDEX `approvalrule_tenant_id_name` ON `approval_rules` (`tenant_id`, `name`);
-- create "approvals" table
CREATE TABLE `approvals` (`id` text NOT NULL, `tenant_id` text NOT NULL, `subject` text NOT NULL, `status` text NOT NULL, `execution` text NOT NULL, `target_id` text NULL, `payload` blob NULL, `needs` blob NOT NULL, `roles` text NOT NULL, `reason` text NULL, `records` integer NOT NULL DEFAULT 0, `policy_version` integer NOT NULL, `use_hours` integer NOT NULL, `created_at` datetime NOT NULL, `expires_at` datetime NOT NULL, `approved_at` datetime NULL, `use_until` datetime NULL, `confirmed_at` datetime NULL, `ended_at` datetime NULL, `code` text NULL, `waits_until` datetime NULL, `operation_id` text NULL, `requested_by_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `approvals_operations_operation` FOREIGN KEY (`operation_id`) REFERENCES `operations` (`id`) ON DELETE RESTRICT, CONSTRAINT `approvals_users_requested_by` FOREIGN KEY (`requested_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "approval_tenant_id_id" to table: "approvals"
CREATE INDEX `approval_tenant_id_id` ON `approvals` (`tenant_id`, `id`);
-- create index "approval_operation_id" to table: "approvals"
CREATE INDEX `approval_operation_id` ON `approvals` (`operation_id`);
-- create index "approval_waits_until" to table: "approvals"
CREATE INDEX `approval_waits_until` ON `approvals` (`waits_until`) WHERE waits_until IS NOT NULL;
-- create "approval_votes" table
CREATE TABLE `approval_votes` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `approve` bool NOT NULL, `comment` text NULL, `at` datetime NOT NULL, `approval_id` text NOT NULL, `user_id` text NOT NULL, CONSTRAINT `approval_votes_approvals_approval` FOREIGN KEY (`approval_id`) REFERENCES `approvals` (`id`) ON DELETE RESTRICT, CONSTRAINT `approval_votes_users_user` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "approvalvote_approval_id_user_id" to table: "approval_votes"
CREATE UNIQUE INDEX `approvalvote_approval_id_user_id` ON `approval_votes` (`approval_id`, `user_id`);
-- the rules that a new tenant starts with
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'purge-by-filter', 'PURGE', 0, true, false, 'admin' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'purge-many', 'PURGE', 100, false, false, 'admin' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'void-with-open-deals', 'VOID', 0, false, true, 'manager' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'hold-release', 'HOLD_RELEASE', 0, false, false, 'admin' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'shorten-retention', 'SHORTEN_RETENTION', 0, false, false, 'admin' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'brake', 'BRAKE', 0, false, false, 'admin' FROM `tenants`;
INSERT INTO `approval_rules` (`tenant_id`, `name`, `subject`, `over`, `by_filter`, `open_deals`, `role`) SELECT `id`, 'grant', 'GRANT', 0, false, false, '' FROM `tenants`;

-- +goose Down
-- reverse: create index "approvalvote_approval_id_user_id" to table: "approval_votes"
DROP INDEX `approvalvote_approval_id_user_id`;
-- reverse: create "approval_votes" table
DROP TABLE `approval_votes`;
-- reverse: create index "approval_waits_until" to table: "approvals"
DROP INDEX `approval_waits_until`;
-- reverse: create index "approval_operation_id" to table: "approvals"
DROP INDEX `approval_operation_id`;
-- reverse: create index "approval_tenant_id_id" to table: "approvals"
DROP INDEX `approval_tenant_id_id`;
-- reverse: create "approvals" table
DROP TABLE `approvals`;
-- reverse: create index "approvalrule_tenant_id_name" to table: "approval_rules"
DROP INDEX `approvalrule_tenant_id_name`;
-- reverse: create "approval_rules" table
DROP TABLE `approval_rules`;
