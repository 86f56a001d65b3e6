-- +goose Up
-- create "tasks" table
CREATE TABLE "tasks" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "state" character varying NOT NULL DEFAULT 'ACTIVE', "prior_state" character varying NULL, "state_changed_at" timestamptz NOT NULL, "state_reason" text NULL, "orphaned_at" timestamptz NULL, "seal" bytea NOT NULL, "retired_at" timestamptz NULL, "purge_after" timestamptz NULL, "suspended_until" timestamptz NULL, "suspended_then" character varying NULL, "version" bigint NOT NULL DEFAULT 1, "title" character varying NOT NULL, "body" text NULL, "due_at" timestamptz NULL, "done" boolean NOT NULL DEFAULT false, "owner_id" uuid NULL, "team_id" uuid NULL, "state_changed_by_id" uuid NULL, "operation_id" uuid NULL, "customer_id" uuid NULL, "deal_id" uuid NULL, "assignee_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "tasks_customers_customer" FOREIGN KEY ("customer_id") REFERENCES "customers" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "tasks_deals_deal" FOREIGN KEY ("deal_id") REFERENCES "deals" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "tasks_teams_team" FOREIGN KEY ("team_id") REFERENCES "teams" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "tasks_users_assignee" FOREIGN KEY ("assignee_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "tasks_users_owner" FOREIGN KEY ("owner_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
-- create index "task_assignee_id_due_at" to table: "tasks"
CREATE INDEX "task_assignee_id_due_at" ON "tasks" ("assignee_id", "due_at") WHERE (retired_at IS NULL);
-- create index "task_customer_id" to table: "tasks"
CREATE INDEX "task_customer_id" ON "tasks" ("customer_id");
-- create index "task_deal_id" to table: "tasks"
CREATE INDEX "task_deal_id" ON "tasks" ("deal_id") WHERE (deal_id IS NOT NULL);
-- create index "task_operation_id" to table: "tasks"
CREATE INDEX "task_operation_id" ON "tasks" ("operation_id") WHERE (operation_id IS NOT NULL);
-- create index "task_owner_id" to table: "tasks"
CREATE INDEX "task_owner_id" ON "tasks" ("owner_id");
-- create index "task_purge_after" to table: "tasks"
CREATE INDEX "task_purge_after" ON "tasks" ("purge_after") WHERE (purge_after IS NOT NULL);
-- create index "task_tenant_id_state_state_changed_at_id" to table: "tasks"
CREATE INDEX "task_tenant_id_state_state_changed_at_id" ON "tasks" ("tenant_id", "state", "state_changed_at", "id");
-- create "calls" table
CREATE TABLE "calls" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "external_id_key" character varying NULL, "state" character varying NOT NULL DEFAULT 'ACTIVE', "prior_state" character varying NULL, "state_changed_at" timestamptz NOT NULL, "state_reason" text NULL, "orphaned_at" timestamptz NULL, "seal" bytea NOT NULL, "retired_at" timestamptz NULL, "purge_after" timestamptz NULL, "suspended_until" timestamptz NULL, "suspended_then" character varying NULL, "version" bigint NOT NULL DEFAULT 1, "direction" character varying NOT NULL DEFAULT 'INBOUND', "from_number" character varying NULL, "to_number" character varying NULL, "started_at" timestamptz NOT NULL, "duration_seconds" bigint NOT NULL DEFAULT 0, "outcome" character varying NOT NULL DEFAULT 'ANSWERED', "external_id" character varying NULL, "owner_id" uuid NULL, "team_id" uuid NULL, "state_changed_by_id" uuid NULL, "operation_id" uuid NULL, "customer_id" uuid NULL, "contact_id" uuid NULL, "deal_id" uuid NULL, "task_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "calls_contacts_contact" FOREIGN KEY ("contact_id") REFERENCES "contacts" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "calls_customers_customer" FOREIGN KEY ("customer_id") REFERENCES "customers" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "calls_deals_deal" FOREIGN KEY ("deal_id") REFERENCES "deals" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "calls_tasks_task" FOREIGN KEY ("task_id") REFERENCES "tasks" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "calls_teams_team" FOREIGN KEY ("team_id") REFERENCES "teams" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "calls_users_owner" FOREIGN KEY ("owner_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
-- create index "call_contact_id" to table: "calls"
CREATE INDEX "call_contact_id" ON "calls" ("contact_id") WHERE (contact_id IS NOT NULL);
-- create index "call_customer_id_started_at_id" to table: "calls"
CREATE INDEX "call_customer_id_started_at_id" ON "calls" ("customer_id", "started_at", "id");
-- create index "call_deal_id" to table: "calls"
CREATE INDEX "call_deal_id" ON "calls" ("deal_id") WHERE (deal_id IS NOT NULL);
-- create index "call_operation_id" to table: "calls"
CREATE INDEX "call_operation_id" ON "calls" ("operation_id") WHERE (operation_id IS NOT NULL);
-- create index "call_owner_id" to table: "calls"
CREATE INDEX "call_owner_id" ON "calls" ("owner_id");
-- create index "call_purge_after" to table: "calls"
CREATE INDEX "call_purge_after" ON "calls" ("purge_after") WHERE (purge_after IS NOT NULL);
-- create index "call_task_id" to table: "calls"
CREATE INDEX "call_task_id" ON "calls" ("task_id") WHERE (task_id IS NOT NULL);
-- create index "call_tenant_id_external_id_key" to table: "calls"
CREATE UNIQUE INDEX "call_tenant_id_external_id_key" ON "calls" ("tenant_id", "external_id_key") WHERE (retired_at IS NULL);
-- create index "call_tenant_id_from_number_started_at" to table: "calls"
CREATE INDEX "call_tenant_id_from_number_started_at" ON "calls" ("tenant_id", "from_number", "started_at") WHERE (retired_at IS NULL);
-- create index "call_tenant_id_started_at_id" to table: "calls"
CREATE INDEX "call_tenant_id_started_at_id" ON "calls" ("tenant_id", "started_at", "id") WHERE (retired_at IS NULL);
-- create index "call_tenant_id_state_state_changed_at_id" to table: "calls"
CREATE INDEX "call_tenant_id_state_state_changed_at_id" ON "calls" ("tenant_id", "state", "state_changed_at", "id");
-- create index "call_tenant_id_to_number_started_at" to table: "calls"
CREATE INDEX "call_tenant_id_to_number_started_at" ON "calls" ("tenant_id", "to_number", "started_at") WHERE (retired_at IS NULL);
-- drop index "message_tenant_id_sender_folded_sent_at" from table: "messages"
DROP INDEX "message_tenant_id_sender_folded_sent_at";
-- create index "message_tenant_id_sender_folded_sent_at_id" to table: "messages"
CREATE INDEX "message_tenant_id_sender_folded_sent_at_id" ON "messages" ("tenant_id", "sender_folded", "sent_at", "id") WHERE (retired_at IS NULL);
-- create "notes" table
CREATE TABLE "notes" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "state" character varying NOT NULL DEFAULT 'ACTIVE', "prior_state" character varying NULL, "state_changed_at" timestamptz NOT NULL, "state_reason" text NULL, "orphaned_at" timestamptz NULL, "seal" bytea NOT NULL, "retired_at" timestamptz NULL, "purge_after" timestamptz NULL, "suspended_until" timestamptz NULL, "suspended_then" character varying NULL, "version" bigint NOT NULL DEFAULT 1, "kind" character varying NOT NULL DEFAULT 'NOTE', "body" text NOT NULL, "happened_at" timestamptz NOT NULL, "owner_id" uuid NULL, "team_id" uuid NULL, "state_changed_by_id" uuid NULL, "operation_id" uuid NULL, "customer_id" uuid NULL, "contact_id" uuid NULL, "deal_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "notes_contacts_contact" FOREIGN KEY ("contact_id") REFERENCES "contacts" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "notes_customers_customer" FOREIGN KEY ("customer_id") REFERENCES "customers" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "notes_deals_deal" FOREIGN KEY ("deal_id") REFERENCES "deals" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "notes_teams_team" FOREIGN KEY ("team_id") REFERENCES "teams" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "notes_users_owner" FOREIGN KEY ("owner_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
-- create index "note_contact_id" to table: "notes"
CREATE INDEX "note_contact_id" ON "notes" ("contact_id") WHERE (contact_id IS NOT NULL);
-- create index "note_customer_id_happened_at_id" to table: "notes"
CREATE INDEX "note_customer_id_happened_at_id" ON "notes" ("customer_id", "happened_at", "id");
-- create index "note_deal_id" to table: "notes"
CREATE INDEX "note_deal_id" ON "notes" ("deal_id") WHERE (deal_id IS NOT NULL);
-- create index "note_operation_id" to table: "notes"
CREATE INDEX "note_operation_id" ON "notes" ("operation_id") WHERE (operation_id IS NOT NULL);
-- create index "note_owner_id" to table: "notes"
CREATE INDEX "note_owner_id" ON "notes" ("owner_id");
-- create index "note_purge_after" to table: "notes"
CREATE INDEX "note_purge_after" ON "notes" ("purge_after") WHERE (purge_after IS NOT NULL);
-- create index "note_tenant_id_happened_at_id" to table: "notes"
CREATE INDEX "note_tenant_id_happened_at_id" ON "notes" ("tenant_id", "happened_at", "id") WHERE (retired_at IS NULL);
-- create index "note_tenant_id_state_state_changed_at_id" to table: "notes"
CREATE INDEX "note_tenant_id_state_state_changed_at_id" ON "notes" ("tenant_id", "state", "state_changed_at", "id");
-- create "attachments" table
CREATE TABLE "attachments" ("id" uuid NOT NULL, "tenant_id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "state" character varying NOT NULL DEFAULT 'ACTIVE', "prior_state" character varying NULL, "state_changed_at" timestamptz NOT NULL, "state_reason" text NULL, "orphaned_at" timestamptz NULL, "seal" bytea NOT NULL, "retired_at" timestamptz NULL, "purge_after" timestamptz NULL, "suspended_until" timestamptz NULL, "suspended_then" character varying NULL, "version" bigint NOT NULL DEFAULT 1, "filename" character varying NOT NULL, "media_type" character varying NOT NULL DEFAULT 'application/octet-stream', "size" bigint NOT NULL DEFAULT 0, "sha256" character varying NULL, "owner_id" uuid NULL, "team_id" uuid NULL, "state_changed_by_id" uuid NULL, "operation_id" uuid NULL, "customer_id" uuid NULL, "deal_id" uuid NULL, "message_id" uuid NULL, "call_id" uuid NULL, "note_id" uuid NULL, PRIMARY KEY ("id"), CONSTRAINT "attachments_calls_call" FOREIGN KEY ("call_id") REFERENCES "calls" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_customers_customer" FOREIGN KEY ("customer_id") REFERENCES "customers" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_deals_deal" FOREIGN KEY ("deal_id") REFERENCES "deals" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_messages_message" FOREIGN KEY ("message_id") REFERENCES "messages" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_notes_note" FOREIGN KEY ("note_id") REFERENCES "notes" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_teams_team" FOREIGN KEY ("team_id") REFERENCES "teams" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT, CONSTRAINT "attachments_users_owner" FOREIGN KEY ("owner_id") REFERENCES "users" ("id") ON UPDATE NO ACTION ON DELETE RESTRICT);
-- create index "attachment_call_id" to table: "attachments"
CREATE INDEX "attachment_call_id" ON "attachments" ("call_id") WHERE (call_id IS NOT NULL);
-- create index "attachment_customer_id" to table: "attachments"
CREATE INDEX "attachment_customer_id" ON "attachments" ("customer_id") WHERE (customer_id IS NOT NULL);
-- create index "attachment_deal_id" to table: "attachments"
CREATE INDEX "attachment_deal_id" ON "attachments" ("deal_id") WHERE (deal_id IS NOT NULL);
-- create index "attachment_message_id" to table: "attachments"
CREATE INDEX "attachment_message_id" ON "attachments" ("message_id") WHERE (message_id IS NOT NULL);
-- create index "attachment_note_id" to table: "attachments"
CREATE INDEX "attachment_note_id" ON "attachments" ("note_id") WHERE (note_id IS NOT NULL);
-- create index "attachment_operation_id" to table: "attachments"
CREATE INDEX "attachment_operation_id" ON "attachments" ("operation_id") WHERE (operation_id IS NOT NULL);
-- create index "attachment_owner_id" to table: "attachments"
CREATE INDEX "attachment_owner_id" ON "attachments" ("owner_id");
-- create index "attachment_purge_after" to table: "attachments"
CREATE INDEX "attachment_purge_after" ON "attachments" ("purge_after") WHERE (purge_after IS NOT NULL);
-- create index "attachment_tenant_id_state_state_changed_at_id" to table: "attachments"
CREATE INDEX "attachment_tenant_id_state_state_changed_at_id" ON "attachments" ("tenant_id", "state", "state_changed_at", "id");

CREATE TRIGGER attachments_no_live_delete BEFORE DELETE ON attachments FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER calls_no_live_delete BEFORE DELETE ON calls FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER notes_no_live_delete BEFORE DELETE ON notes FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
CREATE TRIGGER tasks_no_live_delete BEFORE DELETE ON tasks FOR EACH ROW WHEN (OLD.retired_at IS NULL) EXECUTE FUNCTION lethe_no_live_delete();
-- +goose Down
-- reverse: create index "attachment_tenant_id_state_state_changed_at_id" to table: "attachments"
DROP INDEX "attachment_tenant_id_state_state_changed_at_id";
-- reverse: create index "attachment_purge_after" to table: "attachments"
DROP INDEX "attachment_purge_after";
-- reverse: create index "attachment_owner_id" to table: "attachments"
DROP INDEX "attachment_owner_id";
-- reverse: create index "attachment_operation_id" to table: "attachments"
DROP INDEX "attachment_operation_id";
-- reverse: create index "attachment_note_id" to table: "attachments"
DROP INDEX "attachment_note_id";
-- reverse: create index "attachment_message_id" to table: "attachments"
DROP INDEX "attachment_message_id";
-- reverse: create index "attachment_deal_id" to table: "attachments"
DROP INDEX "attachment_deal_id";
-- reverse: create index "attachment_customer_id" to table: "attachments"
DROP INDEX "attachment_customer_id";
-- reverse: create index "attachment_call_id" to table: "attachments"
DROP INDEX "attachment_call_id";
-- reverse: create "attachments" table
DROP TABLE "attachments";
-- reverse: create index "note_tenant_id_state_state_changed_at_id" to table: "notes"
DROP INDEX "note_tenant_id_state_state_changed_at_id";
-- reverse: create index "note_tenant_id_happened_at_id" to table: "notes"
DROP INDEX "note_tenant_id_happened_at_id";
-- reverse: create index "note_purge_after" to table: "notes"
DROP INDEX "note_purge_after";
-- reverse: create index "note_owner_id" to table: "notes"
DROP INDEX "note_owner_id";
-- reverse: create index "note_operation_id" to table: "notes"
DROP INDEX "note_operation_id";
-- reverse: create index "note_deal_id" to table: "notes"
DROP INDEX "note_deal_id";
-- reverse: create index "note_customer_id_happened_at_id" to table: "notes"
DROP INDEX "note_customer_id_happened_at_id";
-- reverse: create index "note_contact_id" to table: "notes"
DROP INDEX "note_contact_id";
-- reverse: create "notes" table
DROP TABLE "notes";
-- reverse: create index "message_tenant_id_sender_folded_sent_at_id" to table: "messages"
DROP INDEX "message_tenant_id_sender_folded_sent_at_id";
-- reverse: drop index "message_tenant_id_sender_folded_sent_at" from table: "messages"
CREATE INDEX "message_tenant_id_sender_folded_sent_at" ON "messages" ("tenant_id", "sender_folded", "sent_at") WHERE (retired_at IS NULL);
-- reverse: create index "call_tenant_id_to_number_started_at" to table: "calls"
DROP INDEX "call_tenant_id_to_number_started_at";
-- reverse: create index "call_tenant_id_state_state_changed_at_id" to table: "calls"
DROP INDEX "call_tenant_id_state_state_changed_at_id";
-- reverse: create index "call_tenant_id_started_at_id" to table: "calls"
DROP INDEX "call_tenant_id_started_at_id";
-- reverse: create index "call_tenant_id_from_number_started_at" to table: "calls"
DROP INDEX "call_tenant_id_from_number_started_at";
-- reverse: create index "call_tenant_id_external_id_key" to table: "calls"
DROP INDEX "call_tenant_id_external_id_key";
-- reverse: create index "call_task_id" to table: "calls"
DROP INDEX "call_task_id";
-- reverse: create index "call_purge_after" to table: "calls"
DROP INDEX "call_purge_after";
-- reverse: create index "call_owner_id" to table: "calls"
DROP INDEX "call_owner_id";
-- reverse: create index "call_operation_id" to table: "calls"
DROP INDEX "call_operation_id";
-- reverse: create index "call_deal_id" to table: "calls"
DROP INDEX "call_deal_id";
-- reverse: create index "call_customer_id_started_at_id" to table: "calls"
DROP INDEX "call_customer_id_started_at_id";
-- reverse: create index "call_contact_id" to table: "calls"
DROP INDEX "call_contact_id";
-- reverse: create "calls" table
DROP TABLE "calls";
-- reverse: create index "task_tenant_id_state_state_changed_at_id" to table: "tasks"
DROP INDEX "task_tenant_id_state_state_changed_at_id";
-- reverse: create index "task_purge_after" to table: "tasks"
DROP INDEX "task_purge_after";
-- reverse: create index "task_owner_id" to table: "tasks"
DROP INDEX "task_owner_id";
-- reverse: create index "task_operation_id" to table: "tasks"
DROP INDEX "task_operation_id";
-- reverse: create index "task_deal_id" to table: "tasks"
DROP INDEX "task_deal_id";
-- reverse: create index "task_customer_id" to table: "tasks"
DROP INDEX "task_customer_id";
-- reverse: create index "task_assignee_id_due_at" to table: "tasks"
DROP INDEX "task_assignee_id_due_at";
-- reverse: create "tasks" table
DROP TABLE "tasks";
