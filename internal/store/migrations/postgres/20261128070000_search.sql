-- +goose Up
-- the words by which records are found; written by internal/search alone
CREATE TABLE "search_entries" ("record_id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "words" tsvector NOT NULL, PRIMARY KEY ("record_id"));
-- by more words than usual PostgreSQL has to know how frequent they are: of a rare one that it does not know it
-- thinks that it is in many rows, and reads all by their time to find it
ALTER TABLE "search_entries" ALTER COLUMN "words" SET STATISTICS 1000;
CREATE INDEX "search_entries_words" ON "search_entries" USING gin ("words");
-- how far the records were taken apart that were there before
CREATE TABLE "search_progress" ("record_type" text NOT NULL, "version" integer NOT NULL, "last" uuid NOT NULL, "done" boolean NOT NULL, PRIMARY KEY ("record_type"));

-- +goose Down
DROP TABLE "search_entries";
DROP TABLE "search_progress";
