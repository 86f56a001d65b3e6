-- +goose Up
-- add column "code" to table: "operations"
ALTER TABLE `operations` ADD COLUMN `code` text NULL;
-- add column "worked_at" to table: "operations"
ALTER TABLE `operations` ADD COLUMN `worked_at` datetime NULL;
-- add column "pending" to table: "operation_items"
ALTER TABLE `operation_items` ADD COLUMN `pending` integer NULL;
-- create index "operationitem_operation_id_pending" to table: "operation_items"
CREATE INDEX `operationitem_operation_id_pending` ON `operation_items` (`operation_id`, `pending`) WHERE pending IS NOT NULL;
-- what is scheduled waits to be dealt with; the versions that were seen stood in the request, in the same order
UPDATE `operation_items` SET `pending` = w.`n`, `version` = COALESCE(json_extract(CAST(w.`request` AS text), '$.picks[' || (w.`n` - 1) || '].version'), 0)
	FROM (SELECT i.`id`, o.`request`, row_number() OVER (PARTITION BY i.`operation_id` ORDER BY i.`id`) AS `n`
	FROM `operation_items` i JOIN `operations` o ON o.`id` = i.`operation_id` WHERE o.`status` = 'SCHEDULED') w WHERE w.`id` = `operation_items`.`id`;

-- +goose Down
-- reverse: create index "operationitem_operation_id_pending" to table: "operation_items"
DROP INDEX `operationitem_operation_id_pending`;
-- reverse: add column "pending" to table: "operation_items"
ALTER TABLE `operation_items` DROP COLUMN `pending`;
-- reverse: add column "worked_at" to table: "operations"
ALTER TABLE `operations` DROP COLUMN `worked_at`;
-- reverse: add column "code" to table: "operations"
ALTER TABLE `operations` DROP COLUMN `code`;
