-- +goose Up
-- the words by which records are found; written by internal/search alone
CREATE TABLE `search_entries` (`place` integer PRIMARY KEY, `record_id` text NOT NULL UNIQUE, `tenant_id` text NOT NULL);
CREATE VIRTUAL TABLE `search_words` USING fts5 (`words`, content='', contentless_delete=1, detail=none, tokenize='ascii');

-- +goose Down
DROP TABLE `search_words`;
DROP TABLE `search_entries`;
