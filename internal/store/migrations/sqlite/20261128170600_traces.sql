-- +goose Up
-- which span something happened in that is told later, where requests are traced
ALTER TABLE `notify_facts` ADD COLUMN `traceparent` text NULL;
CREATE TABLE `webhook_traces` (`delivery_id` text NOT NULL, `traceparent` text NOT NULL, PRIMARY KEY (`delivery_id`), CONSTRAINT `webhook_traces_webhook_deliveries` FOREIGN KEY (`delivery_id`) REFERENCES `webhook_deliveries` (`id`) ON DELETE CASCADE);

-- +goose Down
DROP TABLE `webhook_traces`;
ALTER TABLE `notify_facts` DROP COLUMN `traceparent`;
