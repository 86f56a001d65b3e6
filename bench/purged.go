package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// compared is how many records each side purges to compare what that leaves.
const compared = 20

const purgeQuery = `mutation Purge($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id status changed } } }`

// stone is what a purge leaves of a record, but for ids and times that are new each time.
type stone struct {
	Direct                                        bool
	Outcome, PriorState, Action, EventOf, StoneOf string
	From, To                                      string
	Version                                       int64 // of the event, since the item
	PriorOperation, PriorPurge, PriorRetired      bool
	Owner, Team, StoneOwner, StoneTeam            bool // are those of the record
	Actor, PurgedBy                               gid.ID
	HasToken, HasRequest, Sealed, Numbered, Then  bool
	PolicyVersion                                 int64
	History                                       string
	Refs, Hash                                    bool // are right
	Left                                          int  // rows of the record and its parts
	Verb, Status                                  string
}

const stoneSQL = `SELECT i.direct, i.outcome, i.prior_state, i.version, i.prior_operation_id IS NOT NULL, i.prior_purge_after IS NOT NULL, i.prior_retired_at IS NOT NULL,
	e.action, e.record_type, COALESCE(e.from_state, ''), COALESCE(e.to_state, ''), e.version, e.actor_id, e.owner_id, e.team_id, e.token_id IS NOT NULL, e.request_id IS NOT NULL,
	e.policy_version, e.sealed IS NOT NULL, s.record_type, s.number IS NOT NULL, s.owner_id, s.team_id, s.purged_by, s.purged_at = e.at, s.history, s.refs, s.content_hash, o.verb, o.status,
	(SELECT count(*) FROM messages WHERE id = i.record_id) + (SELECT count(*) FROM recipients WHERE message_id = i.record_id)
	FROM tombstones s JOIN operations o ON o.id = s.operation_id JOIN operation_items i ON i.operation_id = o.id AND i.record_id = s.record_id
	JOIN audit_events e ON e.record_id = s.record_id AND e.operation_id = o.id WHERE s.record_id = ?`

// comparePurge insists that a purge by either leaves the same of each record, and that a tombstone vouches for what the
// record was.
func (b *bench) comparePurge(ctx context.Context, limit, lethe window) error {
	var stones [2][]stone
	for i, w := range []window{lethe, limit} {
		if _, err := b.chunks(ctx, "delete", w); err != nil {
			return err
		}
		ids, err := b.within(ctx, "purge", w)
		if err != nil {
			return err
		}
		client := ent.NewClient(ent.Driver(b.db.Driver()))
		rows := make([]*ent.Message, len(ids))
		for j, id := range ids {
			if rows[j], err = client.Message.Get(ctx, id); err != nil {
				return err
			}
		}
		who := b.as("purge")
		s, request := b.lethe, who.graphql(purgeQuery, map[string]any{"ids": ids})
		if i == 1 {
			s, request = b.limit, who.wire("POST", "/purge", map[string]any{"ids": ids})
		}
		if err := b.expect(s, request, len(ids)); err != nil {
			return err
		}
		for _, row := range rows {
			left, err := b.stone(ctx, row)
			if err != nil {
				return err
			}
			stones[i] = append(stones[i], *left)
		}
	}
	for i, s := range stones[0] {
		if s != stones[1][i] {
			return fmt.Errorf("a purge by lethe leaves\n%+v\nand by the limit\n%+v", s, stones[1][i])
		}
		if !s.Refs || !s.Hash || s.Left != 0 {
			return fmt.Errorf("a purge leaves %+v", s)
		}
	}
	sayf("a purge leaves the same by both")
	return nil
}

// stone reads what a purge left of a message.
func (b *bench) stone(ctx context.Context, m *ent.Message) (*stone, error) {
	var s stone
	var item, event int64
	var owner, team, stoneOwner, stoneTeam gid.ID
	var history, refs string
	var hash []byte
	found, err := store.Build(b.db).Add(stoneSQL, m.ID).One(ctx, b.db, &s.Direct, &s.Outcome, &s.PriorState, &item, &s.PriorOperation, &s.PriorPurge, &s.PriorRetired,
		&s.Action, &s.EventOf, &s.From, &s.To, &event, &s.Actor, &owner, &team, &s.HasToken, &s.HasRequest,
		&s.PolicyVersion, &s.Sealed, &s.StoneOf, &s.Numbered, &stoneOwner, &stoneTeam, &s.PurgedBy, &s.Then, &history, &refs, &hash, &s.Verb, &s.Status, &s.Left)
	if err != nil || !found {
		return nil, errors.Join(err, fmt.Errorf("reading the tombstone of %s", m.ID))
	}
	s.Version = event - item
	s.Owner, s.Team = m.OwnerID != nil && owner == *m.OwnerID, m.TeamID != nil && team == *m.TeamID
	s.StoneOwner, s.StoneTeam = stoneOwner == owner, stoneTeam == team
	var past []struct {
		At                    time.Time
		Action, To, Operation string
	}
	if err := json.Unmarshal([]byte(history), &past); err != nil {
		return nil, err
	}
	for _, p := range past {
		s.History += fmt.Sprintf("%s %s %t %t;", p.Action, p.To, p.Operation != "", p.At.IsZero())
	}
	var pointers map[string]gid.ID
	if err := json.Unmarshal([]byte(refs), &pointers); err != nil {
		return nil, err
	}
	s.Refs = len(pointers) == 2 && m.CustomerID != nil && pointers["customer"] == *m.CustomerID && m.ContactID != nil && pointers["contact"] == *m.ContactID
	s.Hash, err = b.vouches(m, hash)
	return &s, err
}

// vouches reports whether a tombstone's hash is that of a message.
func (b *bench) vouches(m *ent.Message, hash []byte) (bool, error) {
	content := map[string]any{}
	for _, c := range message.Columns {
		content[c] = m.Column(c)
	}
	text, err := json.Marshal(content)
	if err != nil {
		return false, err
	}
	key, err := b.keys.Tenant(b.tenant)
	if err != nil {
		return false, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return hmac.Equal(mac.Sum(nil), hash), nil
}
