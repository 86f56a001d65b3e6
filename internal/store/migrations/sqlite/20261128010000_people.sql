-- +goose Up
-- add column "name" to table: "api_tokens"
ALTER TABLE `api_tokens` ADD COLUMN `name` text NULL;
-- add columns to table: "users"; it is not copied, because everything refers to it
ALTER TABLE `users` ADD COLUMN `external_subject` text NULL;
ALTER TABLE `users` ADD COLUMN `last_seen_at` datetime NULL;
ALTER TABLE `users` ADD COLUMN `version` integer NOT NULL DEFAULT (1);
-- create index "user_tenant_id_external_subject" to table: "users"
CREATE UNIQUE INDEX `user_tenant_id_external_subject` ON `users` (`tenant_id`, `external_subject`);

-- +goose Down
-- reverse: create index "user_tenant_id_external_subject" to table: "users"
DROP INDEX `user_tenant_id_external_subject`;
-- reverse: add columns to table: "users"
ALTER TABLE `users` DROP COLUMN `version`;
ALTER TABLE `users` DROP COLUMN `last_seen_at`;
ALTER TABLE `users` DROP COLUMN `external_subject`;
-- reverse: add column "name" to table: "api_tokens"
ALTER TABLE `api_tokens` DROP COLUMN `name`;
