-- +goose Up
-- the words by which records are found; written by internal/search alone
CREATE TABLE "search_entries" ("record_id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "words" tsvector NOT NULL, PRIMARY KEY ("record_id"));
CREATE INDEX "search_entries_words" ON "search_entries" USING gin ("words");

-- +goose Down
DROP TABLE "search_entries";
