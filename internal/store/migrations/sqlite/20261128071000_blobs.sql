-- +goose Up
-- bytes that nothing refers to, and when they go; written by internal/blob alone
CREATE TABLE "blob_spares" ("blob_key" text NOT NULL, "until" datetime NOT NULL, "going" bool NOT NULL, PRIMARY KEY ("blob_key"));
CREATE INDEX "blob_spares_until" ON "blob_spares" ("until");

-- +goose Down
DROP TABLE "blob_spares";
