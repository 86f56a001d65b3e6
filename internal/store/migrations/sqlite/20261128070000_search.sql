-- +goose Up
-- the words by which records are found; written by internal/search alone
CREATE TABLE `search_entries` (`place` integer PRIMARY KEY, `record_id` text NOT NULL UNIQUE, `tenant_id` text NOT NULL);
CREATE VIRTUAL TABLE `search_words` USING fts5 (`words`, content='', contentless_delete=1, detail=none, tokenize='ascii');
-- how far the records were taken apart that were there before
CREATE TABLE "search_progress" ("record_type" text NOT NULL, "version" integer NOT NULL, "last" text NOT NULL, "done" bool NOT NULL, PRIMARY KEY ("record_type"));

-- +goose Down
DROP TABLE `search_words`;
DROP TABLE `search_entries`;
DROP TABLE "search_progress";
