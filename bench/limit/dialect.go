package main

import (
	"encoding/hex"
	"time"
)

// itemColumns and eventColumns are those that a change fills in.
const (
	itemColumns = `id, tenant_id, operation_id, record_id, direct, depth, came_with, outcome,
		prior_state, prior_operation_id, prior_purge_after, prior_retired_at, prior_changed_at, prior_changed_by, prior_reason, version`
	stoneColumns = `id, tenant_id, record_id, record_type, owner_id, team_id, purged_by, purged_at, operation_id, history, refs, content_hash`
	eventColumns = `id, tenant_id, at, action, outcome, actor_id, token_id, record_id, record_type, owner_id, team_id,
		from_state, to_state, version, operation_id, request_id, policy_version, sealed`
	// priorColumns are what an item keeps of a row, from what is called old.
	priorColumns = `state, operation_id, purge_after, retired_at, state_changed_at, state_changed_by_id, state_reason, version`
)

// postgresDialect changes all rows of a kind by one statement, which reads them
// once and writes items, events and rows.
var postgresDialect = dialect{
	in:      func(column, parameter string) string { return column + ` = ANY(` + parameter + `::uuid[])` },
	lock:    func(strength string) string { return ` FOR ` + strength },
	ids:     func(ids []ref) any { return ids },
	thread:  `t.thread_key = $4 AND (t.retired_at IS NULL OR t.state = 'VOIDED')`,
	lateral: true,
	retire: func(op *operation, k *kind, rows []*row) []step {
		return []step{{sql: postgresOld(k, ``, ``) + postgresLog(op, k, `'DELETED'`) + `
			UPDATE ` + k.table + ` t SET prior_state = old.state, state = 'DELETED', state_changed_at = $10, state_changed_by_id = $11, state_reason = $15,
			operation_id = $9, purge_after = $16, updated_at = $10, version = old.version + 1, retired_at = COALESCE(old.retired_at, $10)
			FROM old WHERE t.id = old.id`,
			args: append(postgresArgs(op, rows), op.reason(), op.purgeAfter()), rows: len(rows), write: true}}
	},
	restore: func(op *operation, k *kind, rows []*row) []step {
		return []step{{sql: postgresOld(k, restored, itemJoin) + postgresLog(op, k, `to_state`) + `
			UPDATE ` + k.table + ` t SET ` + restoring(`$10`, `$11`) + ` FROM old WHERE t.id = old.id`,
			args: postgresArgs(op, rows), rows: len(rows), write: true}}
	},
	purge: func(op *operation, k *kind, rows []*row, stones map[ref]stone) []step {
		n := len(rows)
		ids, history, refs, hashes := make([]ref, n), make([]string, n), make([]string, n), make([][]byte, n)
		for i, r := range rows {
			s := stones[r.id]
			ids[i], history[i], refs[i], hashes[i] = s.id, s.history, s.refs, s.hash
		}
		args := postgresArgs(op, rows)
		return []step{{sql: postgresOld(k, ``, ``) + postgresLog(op, k, `NULL`) + `,
			stones AS (INSERT INTO tombstones (` + stoneColumns + `)
				SELECT s.id, $8::uuid, old.id, '` + k.name + `', old.owner_id, old.team_id, $11::uuid, $10::timestamptz, $9::uuid, s.history, s.refs, s.hash
				FROM unnest($1::uuid[], $15::uuid[], $16::jsonb[], $17::jsonb[], $18::bytea[]) AS s (record_id, id, history, refs, hash) JOIN old ON old.id = s.record_id)
			DELETE FROM ` + k.table + ` t USING old WHERE t.id = old.id`,
			args: append(args, ids, history, refs, hashes), rows: n, write: true}}
	},
	touch: func(at map[ref]time.Time) step {
		var ids []ref
		var times []time.Time
		for id, t := range at {
			ids, times = append(ids, id), append(times, t)
		}
		return step{sql: `UPDATE customers c SET last_activity_at = v.at FROM unnest($1::uuid[], $2::timestamptz[]) AS v (id, at) WHERE c.id = v.id`,
			args: []any{ids, times}, rows: len(ids), write: true}
	},
}

const (
	// restored is what a row goes back to, from the item i of its operation.
	restored = `, i.prior_state AS to_state, i.prior_operation_id AS to_operation, i.prior_purge_after AS to_purge_after, i.prior_retired_at AS to_retired_at,
		i.prior_changed_at AS to_changed_at, i.prior_changed_by AS to_changed_by, i.prior_reason AS to_reason`
	itemJoin = ` JOIN operation_items i ON i.operation_id = t.operation_id AND i.record_id = t.id AND i.outcome = 'CHANGED'`
)

// restoring sets a row back to what old says. Back in ACTIVE it says who
// restored it; in any other state who put it there first.
func restoring(now, user string) string {
	return `state = old.to_state, operation_id = old.to_operation,
		prior_state = (SELECT p.prior_state FROM operation_items p WHERE p.operation_id = old.to_operation AND p.record_id = old.id AND p.outcome = 'CHANGED'),
		purge_after = old.to_purge_after, retired_at = old.to_retired_at,
		state_changed_at = CASE WHEN old.to_state = 'ACTIVE' THEN ` + now + ` ELSE old.to_changed_at END,
		state_changed_by_id = CASE WHEN old.to_state = 'ACTIVE' THEN ` + user + ` ELSE old.to_changed_by END,
		state_reason = old.to_reason, updated_at = ` + now + `, version = old.version + 1`
}

func postgresOld(k *kind, more, join string) string {
	return `WITH old AS (SELECT v.item, v.event, v.direct, v.depth, v.came_with, v.sealed, t.id, t.owner_id, t.team_id,
		t.state, t.operation_id, t.purge_after, t.retired_at, t.state_changed_at, t.state_changed_by_id, t.state_reason, t.version` + more + `
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bool[], $5::bigint[], $6::uuid[], $7::bytea[]) AS v (id, item, event, direct, depth, came_with, sealed)
		JOIN ` + k.table + ` t ON t.id = v.id` + join + `),`
}

func postgresLog(op *operation, k *kind, to string) string {
	return ` items AS (INSERT INTO operation_items (` + itemColumns + `)
			SELECT item, $8::uuid, $9::uuid, id, direct, depth, came_with, 'CHANGED', ` + priorColumns + ` FROM old),
		events AS (INSERT INTO audit_events (` + eventColumns + `)
			SELECT event, $8::uuid, $10::timestamptz, '` + op.verb + `', 'SUCCEEDED', $11::uuid, $12::uuid, id, '` + k.name + `', owner_id, team_id,
			state, ` + to + `, version + 1, $9::uuid, $13::text, $14::bigint, sealed FROM old)`
}

func postgresArgs(op *operation, rows []*row) []any {
	n := len(rows)
	ids, items, events, with := make([]ref, n), make([]ref, n), make([]ref, n), make([]ref, n)
	direct, depth, sealed := make([]bool, n), make([]int64, n), make([][]byte, n)
	for i, r := range rows {
		ids[i], items[i], events[i], with[i] = r.id, r.item, r.event, r.with
		direct[i], depth[i], sealed[i] = r.depth == 0, int64(r.depth), r.sealed
	}
	return []any{ids, items, events, direct, depth, with, sealed, op.caller.tenant, op.id, op.now, op.caller.user, op.caller.token, op.caller.request, op.policies[op.caller.tenant]}
}

// sqliteDialect writes items, events and rows by a statement each, which read
// what is new of each row from one JSON text.
var sqliteDialect = dialect{
	in: func(column, parameter string) string {
		return column + ` IN (SELECT value FROM json_each(` + parameter + `))`
	},
	lock: func(string) string { return `` }, // a transaction has the database to itself
	ids:  func(ids []ref) any { return jsonText(ids) },
	// It would rather read all of a tenant than find one id.
	unindexed: "+",
	thread: `t.id IN (SELECT id FROM messages WHERE tenant_id = $1 AND thread_key = $4 AND retired_at IS NULL
		UNION ALL SELECT id FROM messages WHERE tenant_id = $1 AND thread_key = $4 AND state = 'VOIDED')`,
	retire: func(op *operation, k *kind, rows []*row) []step {
		return append(sqliteLog(op, k, rows, ``, ``, `'DELETED'`), step{
			sql: `UPDATE ` + k.table + ` SET prior_state = state, state = 'DELETED', state_changed_at = $3, state_changed_by_id = $4, state_reason = $5,
				operation_id = $2, purge_after = $6, updated_at = $3, version = version + 1, retired_at = COALESCE(retired_at, $3)
				WHERE id IN (SELECT value ->> 0 FROM json_each($1))`,
			args: []any{sqliteRows(rows), op.id, op.now, op.caller.user, op.reason(), op.purgeAfter()}, rows: len(rows), write: true,
		})
	},
	restore: func(op *operation, k *kind, rows []*row) []step {
		return append(sqliteLog(op, k, rows, restored, itemJoin, `to_state`), step{
			sql:  sqliteOld(k, restored, itemJoin) + ` UPDATE ` + k.table + ` AS t SET ` + restoring(`$2`, `$3`) + ` FROM old WHERE t.id = old.id`,
			args: []any{sqliteRows(rows), op.now, op.caller.user}, rows: len(rows), write: true,
		})
	},
	purge: func(op *operation, k *kind, rows []*row, stones map[ref]stone) []step {
		list := make([][5]any, len(rows))
		for i, r := range rows {
			s := stones[r.id]
			list[i] = [5]any{r.id, s.id, s.history, s.refs, hex.EncodeToString(s.hash)}
		}
		return append(sqliteLog(op, k, rows, ``, ``, `NULL`), step{
			sql: `INSERT INTO tombstones (` + stoneColumns + `)
				SELECT v.value ->> 1, $2, t.id, '` + k.name + `', t.owner_id, t.team_id, $3, $4, $5, v.value ->> 2, v.value ->> 3, unhex(v.value ->> 4)
				FROM json_each($1) v CROSS JOIN ` + k.table + ` t ON t.id = v.value ->> 0`,
			args: []any{jsonText(list), op.caller.tenant, op.caller.user, op.now, op.id}, rows: len(rows), write: true,
		}, step{
			sql:  `DELETE FROM ` + k.table + ` WHERE id IN (SELECT value ->> 0 FROM json_each($1))`,
			args: []any{sqliteRows(rows)}, rows: len(rows), write: true,
		})
	},
	touch: func(at map[ref]time.Time) step {
		var list [][2]any
		for id, t := range at {
			list = append(list, [2]any{id, t.Format("2006-01-02 15:04:05.999999999-07:00")}) // as the driver writes times
		}
		return step{sql: `UPDATE customers SET last_activity_at = v.at FROM (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) v WHERE customers.id = v.id`,
			args: []any{jsonText(list)}, rows: len(list), write: true}
	},
}

func sqliteOld(k *kind, more, join string) string {
	return `WITH v AS (SELECT value ->> 0 AS id, value ->> 1 AS item, value ->> 2 AS event, value ->> 3 AS direct, value ->> 4 AS depth, value ->> 5 AS came_with,
			unhex(value ->> 6) AS sealed FROM json_each($1)),
		old AS (SELECT v.item, v.event, v.direct, v.depth, v.came_with, v.sealed, t.id, t.owner_id, t.team_id,
			t.state, t.operation_id, t.purge_after, t.retired_at, t.state_changed_at, t.state_changed_by_id, t.state_reason, t.version` + more + `
			FROM v CROSS JOIN ` + k.table + ` t ON t.id = v.id` + join + `)`
}

func sqliteLog(op *operation, k *kind, rows []*row, more, join, to string) []step {
	list := sqliteRows(rows)
	return []step{
		{sql: sqliteOld(k, more, join) + ` INSERT INTO operation_items (` + itemColumns + `)
			SELECT item, $2, $3, id, direct, depth, came_with, 'CHANGED', ` + priorColumns + ` FROM old`,
			args: []any{list, op.caller.tenant, op.id}, rows: len(rows), write: true},
		{sql: sqliteOld(k, more, join) + ` INSERT INTO audit_events (` + eventColumns + `)
			SELECT event, $2, $3, '` + op.verb + `', 'SUCCEEDED', $4, $5, id, '` + k.name + `', owner_id, team_id, state, ` + to + `, version + 1, $6, $7, $8, sealed FROM old`,
			args: []any{list, op.caller.tenant, op.now, op.caller.user, op.caller.token, op.id, op.caller.request, op.policies[op.caller.tenant]}, rows: len(rows), write: true},
	}
}

func sqliteRows(rows []*row) string {
	list := make([][7]any, len(rows))
	for i, r := range rows {
		list[i] = [7]any{r.id, r.item, r.event, r.depth == 0, r.depth, r.with, nil}
		if r.sealed != nil {
			list[i][6] = hex.EncodeToString(r.sealed)
		}
	}
	return jsonText(list)
}
