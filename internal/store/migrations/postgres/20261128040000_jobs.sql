-- +goose Up
-- modify "operations" table
ALTER TABLE "operations" ADD COLUMN "code" character varying NULL, ADD COLUMN "worked_at" timestamptz NULL;
-- modify "operation_items" table
ALTER TABLE "operation_items" ADD COLUMN "pending" bigint NULL;
-- create index "operationitem_operation_id_pending" to table: "operation_items"
CREATE INDEX "operationitem_operation_id_pending" ON "operation_items" ("operation_id", "pending") WHERE (pending IS NOT NULL);
-- what is scheduled waits to be dealt with; the versions that were seen stood in the request, in the same order
UPDATE "operation_items" SET "pending" = w."n", "version" = COALESCE((convert_from(w."request", 'UTF8')::jsonb #>> ARRAY['picks', (w."n" - 1)::text, 'version'])::bigint, 0)
	FROM (SELECT i."id", o."request", row_number() OVER (PARTITION BY i."operation_id" ORDER BY i."id") AS "n"
	FROM "operation_items" i JOIN "operations" o ON o."id" = i."operation_id" WHERE o."status" = 'SCHEDULED') w WHERE w."id" = "operation_items"."id";

-- +goose Down
-- reverse: create index "operationitem_operation_id_pending" to table: "operation_items"
DROP INDEX "operationitem_operation_id_pending";
-- reverse: modify "operation_items" table
ALTER TABLE "operation_items" DROP COLUMN "pending";
-- reverse: modify "operations" table
ALTER TABLE "operations" DROP COLUMN "worked_at", DROP COLUMN "code";
