-- +goose Up
-- drop index "operationitem_operation_id_came_with" from table: "operation_items"
DROP INDEX "operationitem_operation_id_came_with";
-- create index "operationitem_operation_id_came_with" to table: "operation_items"
CREATE INDEX "operationitem_operation_id_came_with" ON "operation_items" ("operation_id", "came_with") WHERE (came_with IS NOT NULL);

-- +goose Down
-- reverse: create index "operationitem_operation_id_came_with" to table: "operation_items"
DROP INDEX "operationitem_operation_id_came_with";
-- reverse: drop index "operationitem_operation_id_came_with" from table: "operation_items"
CREATE INDEX "operationitem_operation_id_came_with" ON "operation_items" ("operation_id", "came_with");
