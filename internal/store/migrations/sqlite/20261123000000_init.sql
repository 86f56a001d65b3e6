-- +goose Up
-- create "api_tokens" table
CREATE TABLE `api_tokens` (`id` text NOT NULL, `tenant_id` text NOT NULL, `user_id` text NOT NULL, `hash` blob NOT NULL, `created_at` datetime NOT NULL, `expires_at` datetime NOT NULL, `used_at` datetime NULL, `revoked_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "apitoken_hash" to table: "api_tokens"
CREATE UNIQUE INDEX `apitoken_hash` ON `api_tokens` (`hash`);
-- create index "apitoken_user_id" to table: "api_tokens"
CREATE INDEX `apitoken_user_id` ON `api_tokens` (`user_id`);
-- create "audit_events" table
CREATE TABLE `audit_events` (`id` text NOT NULL, `tenant_id` text NOT NULL, `at` datetime NOT NULL, `action` text NOT NULL, `outcome` text NOT NULL, `code` text NULL, `actor_id` text NULL, `token_id` text NULL, `record_id` text NULL, `record_type` text NULL, `owner_id` text NULL, `team_id` text NULL, `from_state` text NULL, `to_state` text NULL, `version` integer NULL, `operation_id` text NULL, `request_id` text NULL, `rule` text NULL, `policy_version` integer NULL, `count` integer NULL, `ids` json NULL, `detail` json NULL, `sealed` blob NULL, PRIMARY KEY (`id`));
-- create index "auditevent_tenant_id_id" to table: "audit_events"
CREATE INDEX `auditevent_tenant_id_id` ON `audit_events` (`tenant_id`, `id`);
-- create index "auditevent_record_id_id" to table: "audit_events"
CREATE INDEX `auditevent_record_id_id` ON `audit_events` (`record_id`, `id`);
-- create index "auditevent_operation_id" to table: "audit_events"
CREATE INDEX `auditevent_operation_id` ON `audit_events` (`operation_id`);
-- create "contacts" table
CREATE TABLE `contacts` (`id` text NOT NULL, `tenant_id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `email_key` text NULL, `state` text NOT NULL DEFAULT ('ACTIVE'), `prior_state` text NULL, `state_changed_at` datetime NOT NULL, `state_reason` text NULL, `orphaned_at` datetime NULL, `seal` blob NOT NULL, `retired_at` datetime NULL, `purge_after` datetime NULL, `suspended_until` datetime NULL, `suspended_then` text NULL, `version` integer NOT NULL DEFAULT (1), `name` text NOT NULL, `email` text NULL, `phone` text NULL, `title` text NULL, `owner_id` text NULL, `team_id` text NULL, `state_changed_by_id` text NULL, `operation_id` text NULL, `customer_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `contacts_users_owner` FOREIGN KEY (`owner_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `contacts_teams_team` FOREIGN KEY (`team_id`) REFERENCES `teams` (`id`) ON DELETE RESTRICT, CONSTRAINT `contacts_customers_customer` FOREIGN KEY (`customer_id`) REFERENCES `customers` (`id`) ON DELETE RESTRICT);
-- create index "contact_tenant_id_state_state_changed_at_id" to table: "contacts"
CREATE INDEX `contact_tenant_id_state_state_changed_at_id` ON `contacts` (`tenant_id`, `state`, `state_changed_at`, `id`);
-- create index "contact_operation_id" to table: "contacts"
CREATE INDEX `contact_operation_id` ON `contacts` (`operation_id`) WHERE operation_id IS NOT NULL;
-- create index "contact_purge_after" to table: "contacts"
CREATE INDEX `contact_purge_after` ON `contacts` (`purge_after`) WHERE purge_after IS NOT NULL;
-- create index "contact_owner_id" to table: "contacts"
CREATE INDEX `contact_owner_id` ON `contacts` (`owner_id`);
-- create index "contact_tenant_id_customer_id_email_key" to table: "contacts"
CREATE UNIQUE INDEX `contact_tenant_id_customer_id_email_key` ON `contacts` (`tenant_id`, `customer_id`, `email_key`) WHERE retired_at IS NULL;
-- create index "contact_customer_id" to table: "contacts"
CREATE INDEX `contact_customer_id` ON `contacts` (`customer_id`);
-- create index "contact_tenant_id_email_key" to table: "contacts"
CREATE INDEX `contact_tenant_id_email_key` ON `contacts` (`tenant_id`, `email_key`);
-- create "customers" table
CREATE TABLE `customers` (`id` text NOT NULL, `tenant_id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `email_key` text NULL, `domain_key` text NULL, `number` text NOT NULL, `state` text NOT NULL DEFAULT ('ACTIVE'), `prior_state` text NULL, `state_changed_at` datetime NOT NULL, `state_reason` text NULL, `orphaned_at` datetime NULL, `seal` blob NOT NULL, `retired_at` datetime NULL, `purge_after` datetime NULL, `suspended_until` datetime NULL, `suspended_then` text NULL, `version` integer NOT NULL DEFAULT (1), `name` text NOT NULL, `kind` text NOT NULL DEFAULT ('COMPANY'), `email` text NULL, `phone` text NULL, `domain` text NULL, `status` text NOT NULL DEFAULT ('CUSTOMER'), `last_activity_at` datetime NULL, `ended_at` datetime NULL, `owner_id` text NULL, `team_id` text NULL, `state_changed_by_id` text NULL, `operation_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `customers_users_owner` FOREIGN KEY (`owner_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `customers_teams_team` FOREIGN KEY (`team_id`) REFERENCES `teams` (`id`) ON DELETE RESTRICT);
-- create index "customer_tenant_id_state_state_changed_at_id" to table: "customers"
CREATE INDEX `customer_tenant_id_state_state_changed_at_id` ON `customers` (`tenant_id`, `state`, `state_changed_at`, `id`);
-- create index "customer_operation_id" to table: "customers"
CREATE INDEX `customer_operation_id` ON `customers` (`operation_id`) WHERE operation_id IS NOT NULL;
-- create index "customer_purge_after" to table: "customers"
CREATE INDEX `customer_purge_after` ON `customers` (`purge_after`) WHERE purge_after IS NOT NULL;
-- create index "customer_owner_id" to table: "customers"
CREATE INDEX `customer_owner_id` ON `customers` (`owner_id`);
-- create index "customer_tenant_id_email_key" to table: "customers"
CREATE UNIQUE INDEX `customer_tenant_id_email_key` ON `customers` (`tenant_id`, `email_key`) WHERE retired_at IS NULL;
-- create index "customer_tenant_id_domain_key" to table: "customers"
CREATE UNIQUE INDEX `customer_tenant_id_domain_key` ON `customers` (`tenant_id`, `domain_key`) WHERE retired_at IS NULL;
-- create index "customer_tenant_id_number" to table: "customers"
CREATE UNIQUE INDEX `customer_tenant_id_number` ON `customers` (`tenant_id`, `number`);
-- create "deals" table
CREATE TABLE `deals` (`id` text NOT NULL, `tenant_id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `number` text NOT NULL, `state` text NOT NULL DEFAULT ('ACTIVE'), `prior_state` text NULL, `state_changed_at` datetime NOT NULL, `state_reason` text NULL, `orphaned_at` datetime NULL, `seal` blob NOT NULL, `retired_at` datetime NULL, `purge_after` datetime NULL, `suspended_until` datetime NULL, `suspended_then` text NULL, `version` integer NOT NULL DEFAULT (1), `name` text NOT NULL, `amount` real NULL, `currency` text NULL, `stage` text NOT NULL DEFAULT ('QUALIFICATION'), `closes_at` datetime NULL, `owner_id` text NULL, `team_id` text NULL, `state_changed_by_id` text NULL, `operation_id` text NULL, `customer_id` text NULL, `primary_contact_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `deals_users_owner` FOREIGN KEY (`owner_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `deals_teams_team` FOREIGN KEY (`team_id`) REFERENCES `teams` (`id`) ON DELETE RESTRICT, CONSTRAINT `deals_customers_customer` FOREIGN KEY (`customer_id`) REFERENCES `customers` (`id`) ON DELETE RESTRICT, CONSTRAINT `deals_contacts_primary_contact` FOREIGN KEY (`primary_contact_id`) REFERENCES `contacts` (`id`) ON DELETE RESTRICT);
-- create index "deal_tenant_id_state_state_changed_at_id" to table: "deals"
CREATE INDEX `deal_tenant_id_state_state_changed_at_id` ON `deals` (`tenant_id`, `state`, `state_changed_at`, `id`);
-- create index "deal_operation_id" to table: "deals"
CREATE INDEX `deal_operation_id` ON `deals` (`operation_id`) WHERE operation_id IS NOT NULL;
-- create index "deal_purge_after" to table: "deals"
CREATE INDEX `deal_purge_after` ON `deals` (`purge_after`) WHERE purge_after IS NOT NULL;
-- create index "deal_owner_id" to table: "deals"
CREATE INDEX `deal_owner_id` ON `deals` (`owner_id`);
-- create index "deal_tenant_id_number" to table: "deals"
CREATE UNIQUE INDEX `deal_tenant_id_number` ON `deals` (`tenant_id`, `number`);
-- create index "deal_customer_id" to table: "deals"
CREATE INDEX `deal_customer_id` ON `deals` (`customer_id`);
-- create index "deal_primary_contact_id" to table: "deals"
CREATE INDEX `deal_primary_contact_id` ON `deals` (`primary_contact_id`);
-- create "messages" table
CREATE TABLE `messages` (`id` text NOT NULL, `tenant_id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `message_id_key` text NULL, `state` text NOT NULL DEFAULT ('ACTIVE'), `prior_state` text NULL, `state_changed_at` datetime NOT NULL, `state_reason` text NULL, `orphaned_at` datetime NULL, `seal` blob NOT NULL, `retired_at` datetime NULL, `purge_after` datetime NULL, `suspended_until` datetime NULL, `suspended_then` text NULL, `version` integer NOT NULL DEFAULT (1), `channel` text NOT NULL DEFAULT ('EMAIL'), `category` text NOT NULL DEFAULT ('NORMAL'), `direction` text NOT NULL DEFAULT ('INBOUND'), `sender` text NULL, `sender_name` text NULL, `sender_folded` text NULL, `subject` text NULL, `body` text NULL, `sent_at` datetime NOT NULL, `message_id` text NULL, `thread_key` text NULL, `owner_id` text NULL, `team_id` text NULL, `state_changed_by_id` text NULL, `operation_id` text NULL, `customer_id` text NULL, `contact_id` text NULL, `deal_id` text NULL, `in_reply_to_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `messages_users_owner` FOREIGN KEY (`owner_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `messages_teams_team` FOREIGN KEY (`team_id`) REFERENCES `teams` (`id`) ON DELETE RESTRICT, CONSTRAINT `messages_customers_customer` FOREIGN KEY (`customer_id`) REFERENCES `customers` (`id`) ON DELETE RESTRICT, CONSTRAINT `messages_contacts_contact` FOREIGN KEY (`contact_id`) REFERENCES `contacts` (`id`) ON DELETE RESTRICT, CONSTRAINT `messages_deals_deal` FOREIGN KEY (`deal_id`) REFERENCES `deals` (`id`) ON DELETE RESTRICT, CONSTRAINT `messages_messages_replies` FOREIGN KEY (`in_reply_to_id`) REFERENCES `messages` (`id`) ON DELETE RESTRICT);
-- create index "message_tenant_id_state_state_changed_at_id" to table: "messages"
CREATE INDEX `message_tenant_id_state_state_changed_at_id` ON `messages` (`tenant_id`, `state`, `state_changed_at`, `id`);
-- create index "message_operation_id" to table: "messages"
CREATE INDEX `message_operation_id` ON `messages` (`operation_id`) WHERE operation_id IS NOT NULL;
-- create index "message_purge_after" to table: "messages"
CREATE INDEX `message_purge_after` ON `messages` (`purge_after`) WHERE purge_after IS NOT NULL;
-- create index "message_owner_id" to table: "messages"
CREATE INDEX `message_owner_id` ON `messages` (`owner_id`);
-- create index "message_tenant_id_message_id_key" to table: "messages"
CREATE UNIQUE INDEX `message_tenant_id_message_id_key` ON `messages` (`tenant_id`, `message_id_key`) WHERE retired_at IS NULL;
-- create index "message_customer_id_sent_at_id" to table: "messages"
CREATE INDEX `message_customer_id_sent_at_id` ON `messages` (`customer_id`, `sent_at`, `id`);
-- create index "message_contact_id" to table: "messages"
CREATE INDEX `message_contact_id` ON `messages` (`contact_id`) WHERE contact_id IS NOT NULL;
-- create index "message_deal_id" to table: "messages"
CREATE INDEX `message_deal_id` ON `messages` (`deal_id`) WHERE deal_id IS NOT NULL;
-- create index "message_in_reply_to_id" to table: "messages"
CREATE INDEX `message_in_reply_to_id` ON `messages` (`in_reply_to_id`) WHERE in_reply_to_id IS NOT NULL;
-- create index "message_tenant_id_sent_at_id" to table: "messages"
CREATE INDEX `message_tenant_id_sent_at_id` ON `messages` (`tenant_id`, `sent_at`, `id`) WHERE retired_at IS NULL;
-- create index "message_tenant_id_sender_folded_sent_at" to table: "messages"
CREATE INDEX `message_tenant_id_sender_folded_sent_at` ON `messages` (`tenant_id`, `sender_folded`, `sent_at`) WHERE retired_at IS NULL;
-- create index "message_tenant_id_thread_key" to table: "messages"
CREATE INDEX `message_tenant_id_thread_key` ON `messages` (`tenant_id`, `thread_key`) WHERE retired_at IS NULL;
-- create "number_counters" table
CREATE TABLE `number_counters` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `record_type` text NOT NULL, `next` integer NOT NULL DEFAULT (1));
-- create index "numbercounter_tenant_id_record_type" to table: "number_counters"
CREATE UNIQUE INDEX `numbercounter_tenant_id_record_type` ON `number_counters` (`tenant_id`, `record_type`);
-- create "operations" table
CREATE TABLE `operations` (`id` text NOT NULL, `tenant_id` text NOT NULL, `verb` text NOT NULL, `status` text NOT NULL, `mode` text NOT NULL, `cascade` bool NOT NULL DEFAULT (false), `reason` text NULL, `selection` blob NOT NULL, `team_id` text NULL, `undoes_id` text NULL, `duplicate_of_id` text NULL, `idempotency_key` text NULL, `payload_hash` blob NULL, `total` integer NOT NULL DEFAULT (0), `processed` integer NOT NULL DEFAULT (0), `changed` integer NOT NULL DEFAULT (0), `unchanged` integer NOT NULL DEFAULT (0), `failed` integer NOT NULL DEFAULT (0), `created_at` datetime NOT NULL, `run_at` datetime NULL, `finished_at` datetime NULL, `actor_id` text NULL, `on_behalf_of_id` text NULL, `undone_by_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `operations_users_actor` FOREIGN KEY (`actor_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `operations_users_on_behalf_of` FOREIGN KEY (`on_behalf_of_id`) REFERENCES `users` (`id`) ON DELETE RESTRICT, CONSTRAINT `operations_operations_undone_by` FOREIGN KEY (`undone_by_id`) REFERENCES `operations` (`id`) ON DELETE RESTRICT);
-- create index "operations_undone_by_id_key" to table: "operations"
CREATE UNIQUE INDEX `operations_undone_by_id_key` ON `operations` (`undone_by_id`);
-- create index "operation_tenant_id_actor_id_idempotency_key" to table: "operations"
CREATE UNIQUE INDEX `operation_tenant_id_actor_id_idempotency_key` ON `operations` (`tenant_id`, `actor_id`, `idempotency_key`) WHERE idempotency_key IS NOT NULL;
-- create index "operation_tenant_id_id" to table: "operations"
CREATE INDEX `operation_tenant_id_id` ON `operations` (`tenant_id`, `id`);
-- create "operation_items" table
CREATE TABLE `operation_items` (`id` text NOT NULL, `tenant_id` text NOT NULL, `record_id` text NOT NULL, `direct` bool NOT NULL, `depth` integer NOT NULL DEFAULT (0), `came_with` text NULL, `outcome` text NOT NULL, `code` text NULL, `params` blob NULL, `prior_state` text NULL, `prior_operation_id` text NULL, `prior_purge_after` datetime NULL, `prior_retired_at` datetime NULL, `prior_changed_at` datetime NULL, `prior_changed_by` text NULL, `prior_reason` text NULL, `version` integer NOT NULL DEFAULT (0), `operation_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `operation_items_operations_operation` FOREIGN KEY (`operation_id`) REFERENCES `operations` (`id`) ON DELETE RESTRICT);
-- create index "operationitem_operation_id_id" to table: "operation_items"
CREATE INDEX `operationitem_operation_id_id` ON `operation_items` (`operation_id`, `id`);
-- create index "operationitem_operation_id_came_with" to table: "operation_items"
CREATE INDEX `operationitem_operation_id_came_with` ON `operation_items` (`operation_id`, `came_with`);
-- create index "operationitem_record_id_operation_id" to table: "operation_items"
CREATE INDEX `operationitem_record_id_operation_id` ON `operation_items` (`record_id`, `operation_id`);
-- create "policy_heads" table
CREATE TABLE `policy_heads` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `version` integer NOT NULL DEFAULT (1));
-- create index "policyhead_tenant_id" to table: "policy_heads"
CREATE UNIQUE INDEX `policyhead_tenant_id` ON `policy_heads` (`tenant_id`);
-- create "policy_rules" table
CREATE TABLE `policy_rules` (`id` text NOT NULL, `tenant_id` text NOT NULL, `position` integer NOT NULL, `ptype` text NOT NULL, `v0` text NOT NULL DEFAULT (''), `v1` text NOT NULL DEFAULT (''), `v2` text NOT NULL DEFAULT (''), `v3` text NOT NULL DEFAULT (''), `v4` text NOT NULL DEFAULT (''), `v5` text NOT NULL DEFAULT (''), PRIMARY KEY (`id`));
-- create index "policyrule_tenant_id_position" to table: "policy_rules"
CREATE INDEX `policyrule_tenant_id_position` ON `policy_rules` (`tenant_id`, `position`);
-- create "recipients" table
CREATE TABLE `recipients` (`id` text NOT NULL, `tenant_id` text NOT NULL, `kind` text NOT NULL DEFAULT ('TO'), `address` text NOT NULL, `address_key` text NOT NULL, `name` text NULL, `message_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `recipients_messages_message` FOREIGN KEY (`message_id`) REFERENCES `messages` (`id`) ON DELETE RESTRICT);
-- create index "recipient_message_id" to table: "recipients"
CREATE INDEX `recipient_message_id` ON `recipients` (`message_id`);
-- create index "recipient_tenant_id_address_key" to table: "recipients"
CREATE INDEX `recipient_tenant_id_address_key` ON `recipients` (`tenant_id`, `address_key`);
-- create "record_numbers" table
CREATE TABLE `record_numbers` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `tenant_id` text NOT NULL, `record_type` text NOT NULL, `number` text NOT NULL, `record_id` text NOT NULL);
-- create index "recordnumber_tenant_id_record_type_number" to table: "record_numbers"
CREATE UNIQUE INDEX `recordnumber_tenant_id_record_type_number` ON `record_numbers` (`tenant_id`, `record_type`, `number`);
-- create "secrets" table
CREATE TABLE `secrets` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `name` text NOT NULL, `value` blob NOT NULL);
-- create index "secrets_name_key" to table: "secrets"
CREATE UNIQUE INDEX `secrets_name_key` ON `secrets` (`name`);
-- create "sessions" table
CREATE TABLE `sessions` (`id` text NOT NULL, `tenant_id` text NOT NULL, `user_id` text NOT NULL, `hash` blob NOT NULL, `created_at` datetime NOT NULL, `expires_at` datetime NOT NULL, `used_at` datetime NULL, `revoked_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "session_hash" to table: "sessions"
CREATE UNIQUE INDEX `session_hash` ON `sessions` (`hash`);
-- create index "session_user_id" to table: "sessions"
CREATE INDEX `session_user_id` ON `sessions` (`user_id`);
-- create "sign_in_links" table
CREATE TABLE `sign_in_links` (`id` text NOT NULL, `tenant_id` text NOT NULL, `user_id` text NOT NULL, `hash` blob NOT NULL, `created_at` datetime NOT NULL, `expires_at` datetime NOT NULL, `used_at` datetime NULL, `revoked_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "signinlink_hash" to table: "sign_in_links"
CREATE UNIQUE INDEX `signinlink_hash` ON `sign_in_links` (`hash`);
-- create index "signinlink_user_id" to table: "sign_in_links"
CREATE INDEX `signinlink_user_id` ON `sign_in_links` (`user_id`);
-- create "teams" table
CREATE TABLE `teams` (`id` text NOT NULL, `tenant_id` text NOT NULL, `name` text NOT NULL, PRIMARY KEY (`id`));
-- create index "team_tenant_id_name" to table: "teams"
CREATE UNIQUE INDEX `team_tenant_id_name` ON `teams` (`tenant_id`, `name`);
-- create "tenants" table
CREATE TABLE `tenants` (`id` text NOT NULL, `name` text NOT NULL, `bin_days` integer NOT NULL DEFAULT (30), `created_at` datetime NOT NULL, PRIMARY KEY (`id`));
-- create index "tenants_name_key" to table: "tenants"
CREATE UNIQUE INDEX `tenants_name_key` ON `tenants` (`name`);
-- create "tombstones" table
CREATE TABLE `tombstones` (`id` text NOT NULL, `tenant_id` text NOT NULL, `record_id` text NOT NULL, `record_type` text NOT NULL, `number` text NULL, `owner_id` text NULL, `team_id` text NULL, `purged_by` text NULL, `purged_at` datetime NOT NULL, `operation_id` text NOT NULL, `history` json NOT NULL, `refs` json NOT NULL, `content_hash` blob NOT NULL, PRIMARY KEY (`id`));
-- create index "tombstone_record_id" to table: "tombstones"
CREATE UNIQUE INDEX `tombstone_record_id` ON `tombstones` (`record_id`);
-- create index "tombstone_tenant_id_purged_at" to table: "tombstones"
CREATE INDEX `tombstone_tenant_id_purged_at` ON `tombstones` (`tenant_id`, `purged_at`);
-- create "users" table
CREATE TABLE `users` (`id` text NOT NULL, `tenant_id` text NOT NULL, `email` text NOT NULL, `email_key` text NOT NULL, `name` text NOT NULL, `active` bool NOT NULL DEFAULT (true), `created_at` datetime NOT NULL, PRIMARY KEY (`id`));
-- create index "user_tenant_id_email_key" to table: "users"
CREATE UNIQUE INDEX `user_tenant_id_email_key` ON `users` (`tenant_id`, `email_key`);
-- create "user_teams" table
CREATE TABLE `user_teams` (`user_id` text NOT NULL, `team_id` text NOT NULL, PRIMARY KEY (`user_id`, `team_id`), CONSTRAINT `user_teams_user_id` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE, CONSTRAINT `user_teams_team_id` FOREIGN KEY (`team_id`) REFERENCES `teams` (`id`) ON DELETE CASCADE);

-- +goose Down
-- reverse: create "user_teams" table
DROP TABLE `user_teams`;
-- reverse: create index "user_tenant_id_email_key" to table: "users"
DROP INDEX `user_tenant_id_email_key`;
-- reverse: create "users" table
DROP TABLE `users`;
-- reverse: create index "tombstone_tenant_id_purged_at" to table: "tombstones"
DROP INDEX `tombstone_tenant_id_purged_at`;
-- reverse: create index "tombstone_record_id" to table: "tombstones"
DROP INDEX `tombstone_record_id`;
-- reverse: create "tombstones" table
DROP TABLE `tombstones`;
-- reverse: create index "tenants_name_key" to table: "tenants"
DROP INDEX `tenants_name_key`;
-- reverse: create "tenants" table
DROP TABLE `tenants`;
-- reverse: create index "team_tenant_id_name" to table: "teams"
DROP INDEX `team_tenant_id_name`;
-- reverse: create "teams" table
DROP TABLE `teams`;
-- reverse: create index "signinlink_user_id" to table: "sign_in_links"
DROP INDEX `signinlink_user_id`;
-- reverse: create index "signinlink_hash" to table: "sign_in_links"
DROP INDEX `signinlink_hash`;
-- reverse: create "sign_in_links" table
DROP TABLE `sign_in_links`;
-- reverse: create index "session_user_id" to table: "sessions"
DROP INDEX `session_user_id`;
-- reverse: create index "session_hash" to table: "sessions"
DROP INDEX `session_hash`;
-- reverse: create "sessions" table
DROP TABLE `sessions`;
-- reverse: create index "secrets_name_key" to table: "secrets"
DROP INDEX `secrets_name_key`;
-- reverse: create "secrets" table
DROP TABLE `secrets`;
-- reverse: create index "recordnumber_tenant_id_record_type_number" to table: "record_numbers"
DROP INDEX `recordnumber_tenant_id_record_type_number`;
-- reverse: create "record_numbers" table
DROP TABLE `record_numbers`;
-- reverse: create index "recipient_tenant_id_address_key" to table: "recipients"
DROP INDEX `recipient_tenant_id_address_key`;
-- reverse: create index "recipient_message_id" to table: "recipients"
DROP INDEX `recipient_message_id`;
-- reverse: create "recipients" table
DROP TABLE `recipients`;
-- reverse: create index "policyrule_tenant_id_position" to table: "policy_rules"
DROP INDEX `policyrule_tenant_id_position`;
-- reverse: create "policy_rules" table
DROP TABLE `policy_rules`;
-- reverse: create index "policyhead_tenant_id" to table: "policy_heads"
DROP INDEX `policyhead_tenant_id`;
-- reverse: create "policy_heads" table
DROP TABLE `policy_heads`;
-- reverse: create index "operationitem_record_id_operation_id" to table: "operation_items"
DROP INDEX `operationitem_record_id_operation_id`;
-- reverse: create index "operationitem_operation_id_came_with" to table: "operation_items"
DROP INDEX `operationitem_operation_id_came_with`;
-- reverse: create index "operationitem_operation_id_id" to table: "operation_items"
DROP INDEX `operationitem_operation_id_id`;
-- reverse: create "operation_items" table
DROP TABLE `operation_items`;
-- reverse: create index "operation_tenant_id_id" to table: "operations"
DROP INDEX `operation_tenant_id_id`;
-- reverse: create index "operation_tenant_id_actor_id_idempotency_key" to table: "operations"
DROP INDEX `operation_tenant_id_actor_id_idempotency_key`;
-- reverse: create index "operations_undone_by_id_key" to table: "operations"
DROP INDEX `operations_undone_by_id_key`;
-- reverse: create "operations" table
DROP TABLE `operations`;
-- reverse: create index "numbercounter_tenant_id_record_type" to table: "number_counters"
DROP INDEX `numbercounter_tenant_id_record_type`;
-- reverse: create "number_counters" table
DROP TABLE `number_counters`;
-- reverse: create index "message_tenant_id_thread_key" to table: "messages"
DROP INDEX `message_tenant_id_thread_key`;
-- reverse: create index "message_tenant_id_sender_folded_sent_at" to table: "messages"
DROP INDEX `message_tenant_id_sender_folded_sent_at`;
-- reverse: create index "message_tenant_id_sent_at_id" to table: "messages"
DROP INDEX `message_tenant_id_sent_at_id`;
-- reverse: create index "message_in_reply_to_id" to table: "messages"
DROP INDEX `message_in_reply_to_id`;
-- reverse: create index "message_deal_id" to table: "messages"
DROP INDEX `message_deal_id`;
-- reverse: create index "message_contact_id" to table: "messages"
DROP INDEX `message_contact_id`;
-- reverse: create index "message_customer_id_sent_at_id" to table: "messages"
DROP INDEX `message_customer_id_sent_at_id`;
-- reverse: create index "message_tenant_id_message_id_key" to table: "messages"
DROP INDEX `message_tenant_id_message_id_key`;
-- reverse: create index "message_owner_id" to table: "messages"
DROP INDEX `message_owner_id`;
-- reverse: create index "message_purge_after" to table: "messages"
DROP INDEX `message_purge_after`;
-- reverse: create index "message_operation_id" to table: "messages"
DROP INDEX `message_operation_id`;
-- reverse: create index "message_tenant_id_state_state_changed_at_id" to table: "messages"
DROP INDEX `message_tenant_id_state_state_changed_at_id`;
-- reverse: create "messages" table
DROP TABLE `messages`;
-- reverse: create index "deal_primary_contact_id" to table: "deals"
DROP INDEX `deal_primary_contact_id`;
-- reverse: create index "deal_customer_id" to table: "deals"
DROP INDEX `deal_customer_id`;
-- reverse: create index "deal_tenant_id_number" to table: "deals"
DROP INDEX `deal_tenant_id_number`;
-- reverse: create index "deal_owner_id" to table: "deals"
DROP INDEX `deal_owner_id`;
-- reverse: create index "deal_purge_after" to table: "deals"
DROP INDEX `deal_purge_after`;
-- reverse: create index "deal_operation_id" to table: "deals"
DROP INDEX `deal_operation_id`;
-- reverse: create index "deal_tenant_id_state_state_changed_at_id" to table: "deals"
DROP INDEX `deal_tenant_id_state_state_changed_at_id`;
-- reverse: create "deals" table
DROP TABLE `deals`;
-- reverse: create index "customer_tenant_id_number" to table: "customers"
DROP INDEX `customer_tenant_id_number`;
-- reverse: create index "customer_tenant_id_domain_key" to table: "customers"
DROP INDEX `customer_tenant_id_domain_key`;
-- reverse: create index "customer_tenant_id_email_key" to table: "customers"
DROP INDEX `customer_tenant_id_email_key`;
-- reverse: create index "customer_owner_id" to table: "customers"
DROP INDEX `customer_owner_id`;
-- reverse: create index "customer_purge_after" to table: "customers"
DROP INDEX `customer_purge_after`;
-- reverse: create index "customer_operation_id" to table: "customers"
DROP INDEX `customer_operation_id`;
-- reverse: create index "customer_tenant_id_state_state_changed_at_id" to table: "customers"
DROP INDEX `customer_tenant_id_state_state_changed_at_id`;
-- reverse: create "customers" table
DROP TABLE `customers`;
-- reverse: create index "contact_tenant_id_email_key" to table: "contacts"
DROP INDEX `contact_tenant_id_email_key`;
-- reverse: create index "contact_customer_id" to table: "contacts"
DROP INDEX `contact_customer_id`;
-- reverse: create index "contact_tenant_id_customer_id_email_key" to table: "contacts"
DROP INDEX `contact_tenant_id_customer_id_email_key`;
-- reverse: create index "contact_owner_id" to table: "contacts"
DROP INDEX `contact_owner_id`;
-- reverse: create index "contact_purge_after" to table: "contacts"
DROP INDEX `contact_purge_after`;
-- reverse: create index "contact_operation_id" to table: "contacts"
DROP INDEX `contact_operation_id`;
-- reverse: create index "contact_tenant_id_state_state_changed_at_id" to table: "contacts"
DROP INDEX `contact_tenant_id_state_state_changed_at_id`;
-- reverse: create "contacts" table
DROP TABLE `contacts`;
-- reverse: create index "auditevent_operation_id" to table: "audit_events"
DROP INDEX `auditevent_operation_id`;
-- reverse: create index "auditevent_record_id_id" to table: "audit_events"
DROP INDEX `auditevent_record_id_id`;
-- reverse: create index "auditevent_tenant_id_id" to table: "audit_events"
DROP INDEX `auditevent_tenant_id_id`;
-- reverse: create "audit_events" table
DROP TABLE `audit_events`;
-- reverse: create index "apitoken_user_id" to table: "api_tokens"
DROP INDEX `apitoken_user_id`;
-- reverse: create index "apitoken_hash" to table: "api_tokens"
DROP INDEX `apitoken_hash`;
-- reverse: create "api_tokens" table
DROP TABLE `api_tokens`;
