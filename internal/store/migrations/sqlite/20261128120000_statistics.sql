-- +goose Up
-- what statistics of a period are counted from, and how many bytes a purge freed
CREATE INDEX "auditevent_tenant_id_at" ON "audit_events" ("tenant_id", "at");
ALTER TABLE "tombstones" ADD COLUMN "size" integer NULL;

-- +goose Down
ALTER TABLE "tombstones" DROP COLUMN "size";
DROP INDEX "auditevent_tenant_id_at";
