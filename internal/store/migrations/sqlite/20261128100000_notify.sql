-- +goose Up
-- what happened and was told to nobody yet, and what goes with it; written by internal/notify alone
CREATE TABLE `notify_facts` (`id` text NOT NULL, `tenant_id` text NOT NULL, `at` datetime NOT NULL, `action` text NOT NULL, `outcome` text NOT NULL, `actor_id` text NULL, `operation_id` text NULL, `subject_id` text NULL, `about_id` text NULL, `count` integer NOT NULL, `records` text NULL, `weighed` bool NOT NULL, PRIMARY KEY (`id`));
CREATE TABLE `notification_records` (`notification_id` text NOT NULL, `record_id` text NOT NULL, PRIMARY KEY (`notification_id`, `record_id`));
CREATE INDEX `notification_records_record_id` ON `notification_records` (`record_id`);
CREATE TABLE `follows` (`tenant_id` text NOT NULL, `user_id` text NOT NULL, `record_id` text NOT NULL, PRIMARY KEY (`record_id`, `user_id`));
CREATE INDEX `follows_user_id` ON `follows` (`user_id`);
CREATE TABLE `department_members` (`department_id` text NOT NULL, `user_id` text NOT NULL, PRIMARY KEY (`department_id`, `user_id`));
CREATE TABLE `purge_notices` (`record_id` text NOT NULL, `days` integer NOT NULL, `purge_after` datetime NOT NULL, `tenant_id` text NOT NULL, `record_type` text NOT NULL, `owner_id` text NULL, `fact_id` text NOT NULL, PRIMARY KEY (`record_id`, `days`, `purge_after`));
CREATE INDEX `purge_notices_fact_id` ON `purge_notices` (`fact_id`);
CREATE TABLE `alert_signals` (`tenant_id` text NOT NULL, `signal` text NOT NULL, `actor_id` text NOT NULL, `at` datetime NOT NULL, `count` integer NOT NULL);
CREATE INDEX `alert_signals_at` ON `alert_signals` (`tenant_id`, `signal`, `at`);
CREATE TABLE `alert_marks` (`rule_id` text NOT NULL, `actor_id` text NOT NULL, `at` datetime NOT NULL, PRIMARY KEY (`rule_id`, `actor_id`));
CREATE TABLE `notify_marks` (`tenant_id` text NOT NULL, `name` text NOT NULL, `at` datetime NOT NULL, PRIMARY KEY (`tenant_id`, `name`));
-- create "alert_rules" table
CREATE TABLE `alert_rules` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, `kind` text NOT NULL, `count` integer NOT NULL DEFAULT (1), `minutes` integer NOT NULL DEFAULT (60), `verbs` json NOT NULL, `from_hour` integer NOT NULL DEFAULT (8), `to_hour` integer NOT NULL DEFAULT (18), `zone` text NOT NULL DEFAULT ('UTC'), `weekdays` json NOT NULL, `departments` json NOT NULL, `roles` json NOT NULL, `enabled` bool NOT NULL DEFAULT (true), `version` integer NOT NULL DEFAULT (1), `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `removed_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "alertrule_tenant_id_id"
CREATE INDEX `alertrule_tenant_id_id` ON `alert_rules` (`tenant_id`, `id`);
-- create "departments" table
CREATE TABLE `departments` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, `address` text NOT NULL DEFAULT (''), `kinds` json NOT NULL, `types` json NOT NULL, `version` integer NOT NULL DEFAULT (1), `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `webhook_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `departments_webhooks_webhook` FOREIGN KEY (`webhook_id`) REFERENCES `webhooks` (`id`) ON DELETE RESTRICT);
-- create index "department_tenant_id_id"
CREATE INDEX `department_tenant_id_id` ON `departments` (`tenant_id`, `id`);
-- create "notifications" table
CREATE TABLE `notifications` (`id` text NOT NULL, `tenant_id` text NOT NULL, `fact_id` text NOT NULL, `user_id` text NOT NULL, `kind` text NOT NULL, `at` datetime NOT NULL, `subject_id` text NULL, `days` integer NULL, `count` integer NULL, `records` integer NOT NULL DEFAULT (0), `read_at` datetime NULL, `operation_id` text NULL, `approval_id` text NULL, `about_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `notifications_approvals_approval` FOREIGN KEY (`approval_id`) REFERENCES `approvals` (`id`) ON DELETE RESTRICT, CONSTRAINT `notifications_users_about` FOREIGN KEY (`about_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "notification_user_id_at"
CREATE INDEX `notification_user_id_at` ON `notifications` (`user_id`, `at`);
-- create index "notification_fact_id_user_id"
CREATE UNIQUE INDEX `notification_fact_id_user_id` ON `notifications` (`fact_id`, `user_id`);
-- create index "notification_at"
CREATE INDEX `notification_at` ON `notifications` (`at`);
-- create "webhooks" table
CREATE TABLE `webhooks` (`id` text NOT NULL, `tenant_id` text NOT NULL, `url` text NOT NULL, `name` text NOT NULL DEFAULT (''), `kinds` json NOT NULL, `types` json NOT NULL, `enabled` bool NOT NULL DEFAULT (true), `version` integer NOT NULL DEFAULT (1), `secret` blob NOT NULL, `previous_secret` blob NULL, `previous_secret_until` datetime NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `failing_since` datetime NULL, `removed_at` datetime NULL, `created_by_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `webhooks_users_created_by` FOREIGN KEY (`created_by_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT);
-- create index "webhook_tenant_id_id"
CREATE INDEX `webhook_tenant_id_id` ON `webhooks` (`tenant_id`, `id`);
-- create "webhook_deliveries" table
CREATE TABLE `webhook_deliveries` (`id` text NOT NULL, `tenant_id` text NOT NULL, `event_type` text NOT NULL, `body` blob NOT NULL, `status` text NOT NULL, `attempts` integer NOT NULL DEFAULT (0), `created_at` datetime NOT NULL, `next_at` datetime NULL, `delivered_at` datetime NULL, `status_code` integer NULL, `failure` text NULL, `webhook_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `webhook_deliveries_webhooks_webhook` FOREIGN KEY (`webhook_id`) REFERENCES `webhooks` (`id`) ON DELETE RESTRICT);
-- create index "webhookdelivery_webhook_id_id"
CREATE INDEX `webhookdelivery_webhook_id_id` ON `webhook_deliveries` (`webhook_id`, `id`);
-- create index "webhookdelivery_webhook_id_next_at"
CREATE INDEX `webhookdelivery_webhook_id_next_at` ON `webhook_deliveries` (`webhook_id`, `next_at`) WHERE next_at IS NOT NULL;
-- create index "webhookdelivery_created_at"
CREATE INDEX `webhookdelivery_created_at` ON `webhook_deliveries` (`created_at`);

-- +goose Down
DROP INDEX `webhookdelivery_created_at`;
DROP INDEX `webhookdelivery_webhook_id_next_at`;
DROP INDEX `webhookdelivery_webhook_id_id`;
DROP TABLE `webhook_deliveries`;
DROP INDEX `webhook_tenant_id_id`;
DROP TABLE `webhooks`;
DROP INDEX `notification_at`;
DROP INDEX `notification_fact_id_user_id`;
DROP INDEX `notification_user_id_at`;
DROP TABLE `notifications`;
DROP INDEX `department_tenant_id_id`;
DROP TABLE `departments`;
DROP INDEX `alertrule_tenant_id_id`;
DROP TABLE `alert_rules`;
DROP TABLE `notify_marks`;
DROP TABLE `alert_marks`;
DROP INDEX `alert_signals_at`;
DROP TABLE `alert_signals`;
DROP INDEX `purge_notices_fact_id`;
DROP TABLE `purge_notices`;
DROP TABLE `department_members`;
DROP INDEX `follows_user_id`;
DROP TABLE `follows`;
DROP INDEX `notification_records_record_id`;
DROP TABLE `notification_records`;
DROP TABLE `notify_facts`;
