-- +goose Up
-- bytes that nothing refers to, and when they go; written by internal/blob alone
CREATE TABLE "blob_spares" ("blob_key" text NOT NULL, "until" timestamptz NOT NULL, "going" boolean NOT NULL, PRIMARY KEY ("blob_key"));
CREATE INDEX "blob_spares_until" ON "blob_spares" ("until");

-- +goose Down
DROP TABLE "blob_spares";
