package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	// jobChunk is how many records the limit takes in a transaction: as many as a
	// batch of a job.
	jobChunk = 500
	// jobEvery is how often a job is asked how far it is, which is still more often than a client would, and jobWithin how
	// long it may take.
	jobEvery, jobWithin = 200 * time.Millisecond, 2 * time.Hour
)

const (
	countQuery = `query Count($where: MessageWhereInput!, $states: [RecordState!]!) { messages(first: 1, where: $where, states: $states) { totalCount } }`
	jobQuery   = `mutation Job($where: MessageWhereInput!, $count: Int!) { %sRecords(input: {select: {messages: $where}, expectedCount: $count}) { operation { id status } } }`
	pollQuery  = `query Poll($id: ID!) { operation(id: $id) { status processed total changed } }`
)

// window are the messages of a time, of which the manager sees so many.
type window struct {
	from, to time.Time
	n        int
}

func (w window) where() map[string]any {
	return map[string]any{"sentAtGTE": w.from.Format(time.RFC3339Nano), "sentAtLT": w.to.Format(time.RFC3339Nano)}
}

// jobRow is what one verb took on so many records.
type jobRow struct {
	Verb         string
	Records      int
	Lethe, Limit time.Duration
}

// jobsResult is what a run found.
type jobsResult struct {
	place  string // in README.md
	head   string
	Rows   []jobRow
	Memory map[int]int64 // high water of a server in bytes, by records
}

// measureJobs fills a database of its own, each time anew because purges use it up, and has both sides delete, restore
// and purge so many messages by a filter: Lethe as a job, the limit in chunks.
func measureJobs(ctx context.Context, o *options) (_ *jobsResult, err error) {
	work, err := os.MkdirTemp("", "lethe-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	own := *o
	b := &bench{options: &own, work: work, folder: filepath.Join(work, "jobs")}
	if o.keep != "" {
		b.folder = filepath.Join(o.keep, "jobs")
		if err := os.RemoveAll(b.folder); err != nil { // of a run that was killed
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	}
	need := 2 * compared
	for _, n := range o.records {
		need += 2 * n
	}
	own.customers = max(need/4, 100) // every second message is the manager's team's, and a customer has ten
	own.messages = 10 * own.customers
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	if b.binaries == "" {
		own.binaries = work
		if err := b.build(ctx); err != nil {
			return nil, err
		}
	}
	if b.limit, _, err = b.startOne(ctx, "limit", b.url); err != nil {
		return nil, err
	}
	windows, err := b.windows(ctx)
	if err != nil {
		return nil, err
	}
	r := &jobsResult{place: "jobs", Memory: map[int]int64{}}
	if b.sqlite {
		r.place = "jobs on sqlite"
	}
	about, err := b.newResult(ctx)
	if err != nil {
		return nil, err
	}
	r.head = fmt.Sprintf("%s; %s; %s", about.Database, about.Machine, about.Size)
	for i, n := range append([]int{0}, o.records...) {
		if b.lethe, _, err = b.startOne(ctx, "lethe", b.url); err != nil {
			return nil, err
		}
		if n == 0 {
			err = b.comparePurge(ctx, windows[0], windows[1])
		} else {
			err = b.measureSize(ctx, r, windows[2*i], windows[2*i+1])
		}
		if n > 0 {
			r.Memory[n] = memory(b.lethe.pid(), "VmHWM")
		}
		err, b.lethe = errors.Join(err, b.lethe.stop()), nil
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// windows are, for the comparison and for each size, one for the limit and one for Lethe, which has the newer messages:
// more of them are the last of their customer.
func (b *bench) windows(ctx context.Context) (list []window, err error) {
	sizes := []int{compared, compared}
	for _, n := range b.records {
		sizes = append(sizes, n, n)
	}
	seen, args, err := b.seen(ctx)
	if err != nil {
		return nil, err
	}
	at := func(offset int) (t time.Time, err error) {
		found, err := store.Build(b.db).Add(`SELECT sent_at FROM messages WHERE tenant_id = ? AND retired_at IS NULL AND `+seen+` ORDER BY sent_at LIMIT 1 OFFSET ?`,
			append(append([]any{b.tenant}, args...), offset)...).One(ctx, b.db, &t)
		if err == nil && !found {
			err = errors.New("there are too few messages")
		}
		return t, err
	}
	offset := 0
	from, err := at(0)
	for _, n := range sizes {
		if err != nil {
			return nil, err
		}
		w := window{from: from, n: n}
		offset += n
		w.to, err = at(offset)
		from, list = w.to, append(list, w)
	}
	return list, err
}

// measureSize measures all verbs on as many records as two windows have. What is purged must be deleted again before:
// deletes take the mean of both times. The sides take turns at being first.
func (b *bench) measureSize(ctx context.Context, r *jobsResult, limit, lethe window) error {
	rows := map[string]*jobRow{}
	for i, verb := range []string{"delete", "restore", "delete", "purge"} {
		took := jobRow{Verb: verb, Records: lethe.n}
		sides := []struct {
			took *time.Duration
			do   func(context.Context, string, window) (time.Duration, error)
			w    window
		}{{&took.Lethe, b.job, lethe}, {&took.Limit, b.chunks, limit}}
		if i%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			if err := b.tidy(ctx); err != nil {
				return err
			}
			var err error
			if *side.took, err = side.do(ctx, verb, side.w); err != nil {
				return fmt.Errorf("%s of %d: %w", verb, side.w.n, err)
			}
		}
		sayf("%s of %d: Lethe %s, limit %s", verb, lethe.n, took.Lethe.Round(time.Millisecond), took.Limit.Round(time.Millisecond))
		if before := rows[verb]; before != nil {
			took.Lethe, took.Limit = (before.Lethe+took.Lethe)/2, (before.Limit+took.Limit)/2
		}
		rows[verb] = &took
	}
	for _, verb := range []string{"delete", "restore", "purge"} {
		r.Rows = append(r.Rows, *rows[verb])
	}
	return nil
}

// tidy has both sides find the tables as a database keeps them that is not in a hurry.
func (b *bench) tidy(ctx context.Context) error {
	statements := []string{`PRAGMA wal_checkpoint(TRUNCATE)`}
	if !b.sqlite {
		statements = []string{`VACUUM (ANALYZE) messages, recipients, customers, operations, operation_items, audit_events, tombstones`, `CHECKPOINT`}
	}
	for _, statement := range statements {
		if _, err := store.Build(b.db).Add(statement).Exec(ctx, b.db); err != nil {
			return err
		}
	}
	return nil
}

// as is the bench with the token of who does a verb.
func (b *bench) as(verb string) *bench {
	who := *b
	if verb == "purge" {
		who.token = b.purger
	}
	return &who
}

// job has Lethe carry out a verb on a window as a job, and answers how long it took from the request to its end.
func (b *bench) job(ctx context.Context, verb string, w window) (time.Duration, error) {
	b = b.as(verb)
	c, err := dial(b.lethe.address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	states := []string{"DELETED"}
	if verb == "delete" {
		states = []string{"ACTIVE"}
	}
	var count struct{ Messages struct{ TotalCount int } }
	if err := c.graphql(b.graphql(countQuery, map[string]any{"where": w.where(), "states": states}), &count); err != nil {
		return 0, err
	}
	if count.Messages.TotalCount != w.n {
		return 0, fmt.Errorf("lethe counts %d messages instead of %d", count.Messages.TotalCount, w.n)
	}
	type state struct {
		ID                        gid.ID
		Status                    string
		Processed, Total, Changed int
	}
	begin := time.Now()
	var accepted map[string]struct{ Operation state }
	if err := c.graphql(b.graphql(fmt.Sprintf(jobQuery, verb), map[string]any{"where": w.where(), "count": w.n}), &accepted); err != nil {
		return 0, err
	}
	op := accepted[verb+"Records"].Operation
	poll := b.graphql(pollQuery, map[string]any{"id": op.ID})
	for op.Status == "QUEUED" || op.Status == "RUNNING" {
		if time.Since(begin) > jobWithin {
			return 0, fmt.Errorf("the job does not end: %+v", op)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(jobEvery):
		}
		var polled struct{ Operation state }
		if err := c.graphql(poll, &polled); err != nil {
			return 0, err
		}
		op = polled.Operation
	}
	if op.Status != "SUCCEEDED" || op.Changed != w.n {
		return 0, fmt.Errorf("the job ended otherwise: %+v", op)
	}
	return time.Since(begin), nil
}

// graphql sends a request and reads the data of its answer.
func (c *client) graphql(request []byte, data any) error {
	body, err := c.do(request)
	if err != nil {
		return err
	}
	answer := struct {
		Data   any
		Errors json.RawMessage
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if answer.Errors != nil {
		return fmt.Errorf("lethe answers %s", answer.Errors)
	}
	return nil
}

// chunks has the limit carry out a verb on a window chunk by chunk, and answers how long it took with the selection.
func (b *bench) chunks(ctx context.Context, verb string, w window) (time.Duration, error) {
	c, err := dial(b.limit.address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	begin := time.Now()
	ids, err := b.within(ctx, verb, w)
	if err != nil {
		return 0, err
	}
	if len(ids) != w.n {
		return 0, fmt.Errorf("there are %d messages instead of %d", len(ids), w.n)
	}
	for len(ids) > 0 {
		chunk := ids[:min(jobChunk, len(ids))]
		ids = ids[len(chunk):]
		body, err := c.do(b.as(verb).wire("POST", "/"+verb, map[string]any{"ids": chunk}))
		if err == nil {
			err = changed(len(chunk))(body)
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// within are the messages of a window that a verb changes.
func (b *bench) within(ctx context.Context, verb string, w window) ([]gid.ID, error) {
	seen, args, err := b.seen(ctx)
	if err != nil {
		return nil, err
	}
	state := `state = 'DELETED' AND retired_at IS NOT NULL`
	if verb == "delete" {
		state = `retired_at IS NULL`
	}
	return b.list(ctx, `SELECT id FROM messages WHERE tenant_id = ? AND sent_at >= ? AND sent_at < ? AND `+state+` AND `+seen+` ORDER BY id`,
		append([]any{b.tenant, w.from, w.to}, args...)...)
}

// table is the result in Markdown.
func (r *jobsResult) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", r.head)
	b.WriteString("| records | verb | Lethe | records/s | limit | records/s | Lethe's share of the limit |\n|--:|---|--:|--:|--:|--:|--:|\n")
	for _, row := range r.Rows {
		lethe, limit := row.Lethe.Seconds(), row.Limit.Seconds()
		fmt.Fprintf(&b, "| %d | %s | %.1f s | %s | %.1f s | %s | %s %% |\n", row.Records, row.Verb, lethe, rate(float64(row.Records)/lethe), limit, rate(float64(row.Records)/limit),
			ratio(100*limit, lethe, 0))
	}
	b.WriteString("\n| records | most memory Lethe held |\n|--:|--:|\n")
	for _, n := range slices.Sorted(maps.Keys(r.Memory)) {
		fmt.Fprintf(&b, "| %d | %.0f MB |\n", n, float64(r.Memory[n])/1e6)
	}
	return b.String()
}
