-- +goose Up
-- how many of the records the import created that asked for the operation
ALTER TABLE `operations` ADD COLUMN `imported` integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE `operations` DROP COLUMN `imported`;
