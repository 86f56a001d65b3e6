package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// How much a soak asks of a server.
const (
	soakConnections   = 64
	soakSubscriptions = 20
)

// soaking is a server under mixed load.
type soaking struct {
	*testing.T

	url, token string
	db         *store.DB
	client     *http.Client
	stopping   atomic.Bool // from then on, requests may be turned away

	mu        sync.Mutex
	latencies []time.Duration
	created   map[string]bool // ids that the server answered with
	failures  []string
	turnedOff int
}

// TestASoakedServerStaysAsItWas puts mixed load on a server, with subscriptions beside
// it, and then stops it under that load. `make long` does it for ten minutes on each
// database. That what is answered is there, and what is there was answered, or told of
// to those who subscribed, is asserted; how fast it was is only said.
func TestASoakedServerStaysAsItWas(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs processes, which the race detector does not see")
	}
	long := 5 * time.Second
	if d, err := time.ParseDuration(os.Getenv("LETHE_SOAK")); err == nil {
		long = d
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LETHE_SEED"), 10, 64); err == nil {
		seed = s
	}
	for _, name := range slices.Sorted(maps.Keys(databases)) { // one after the other: each has the machine
		t.Run(name, func(t *testing.T) {
			t.Logf("LETHE_SEED=%d", seed)
			dir := t.TempDir()
			url := databases[name](t, dir)
			env := append(os.Environ(), "LETHE_DATABASE="+url, "LETHE_DATA="+dir, "LETHE_KEY="+key)
			server, err := start(env, dir)
			require.NoError(t, err)
			t.Cleanup(func() { _ = server.cmd.Process.Kill() })
			token, err := command(env, "token", "create", "--tenant", "default", "--user", "admin@localhost").Output()
			require.NoError(t, err)
			s := &soaking{T: t, url: server.url, token: strings.TrimSpace(string(token)), created: map[string]bool{}, client: &http.Client{
				Transport: &http.Transport{MaxIdleConnsPerHost: soakConnections, MaxConnsPerHost: 0},
			}}
			s.db, err = store.Open(t.Context(), url)
			require.NoError(t, err)
			defer s.db.Close()
			_, err = store.Build(s.db).Add(`UPDATE tenants SET brake_records = NULL, brake_percent = NULL, brake_hour = NULL, brake_day = NULL, purge_day = NULL`).Exec(t.Context(), s.db)
			require.NoError(t, err)

			listeners := s.listen()
			ctx, stop := context.WithCancel(t.Context())
			var working sync.WaitGroup
			for i := range soakConnections {
				working.Go(func() { s.work(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)))) })
			}
			// What it is like once it is warm, and at the end.
			time.Sleep(long / 4)
			warm := s.metrics()
			time.Sleep(long - long/4)
			end := s.metrics()
			s.mu.Lock()
			slices.Sort(s.latencies)
			n := len(s.latencies)
			t.Logf("%d requests in %s; median %s, 95th %s, 99th %s, slowest %s", n, long,
				s.latencies[n/2], s.latencies[n*95/100], s.latencies[n*99/100], s.latencies[n-1])
			s.mu.Unlock()
			t.Logf("goroutines %.0f, then %.0f; heap %.1f MiB, then %.1f MiB", warm["go_goroutines"], end["go_goroutines"],
				warm["go_memstats_heap_inuse_bytes"]/(1<<20), end["go_memstats_heap_inuse_bytes"]/(1<<20))
			require.Less(t, end["go_goroutines"], warm["go_goroutines"]*1.5+100, "goroutines grow")
			require.Less(t, end["go_memstats_heap_inuse_bytes"], warm["go_memstats_heap_inuse_bytes"]*2+128<<20, "memory grows")

			// By now some were created. All hear of these, while the load goes on.
			s.mu.Lock()
			before := maps.Clone(s.created)
			s.mu.Unlock()
			for i, l := range listeners {
				require.Eventually(t, func() bool { return l.heardOf(before) }, 30*time.Second, 10*time.Millisecond, "subscription %d", i)
			}

			s.stopping.Store(true)
			require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, <-server.done)
			require.NotContains(t, server.out.String(), "did not end in time")
			stop()
			working.Wait()
			require.Empty(t, s.failures[:min(5, len(s.failures))])

			there := map[string]bool{}
			err = store.Build(s.db).Add(`SELECT id FROM customers`).Query(t.Context(), s.db, func(row store.Row) error {
				var id gid.ID
				err := row.Scan(&id)
				there[id.String()] = true
				return err
			})
			require.NoError(t, err)
			for id := range s.created {
				require.True(t, there[id], "%s was answered and is not there", id)
			}
			require.Len(t, there, len(s.created), "what is there and was not answered: a request was accepted, and its answer lost")
			for i, l := range listeners {
				l.check(i, there)
			}
			t.Logf("%d customers, %d of which %d subscriptions all heard of before it stopped; %d requests turned away while it did", len(there), len(before), len(listeners), s.turnedOff)
		})
	}
}

// ask sends a document; it fails where that fails, but while the server stops.
func (s *soaking) ask(ctx context.Context, document string, variables map[string]any, into any) bool {
	body, err := json.Marshal(map[string]any{"query": document, "variables": variables})
	if err != nil {
		return s.fails("%v", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/graphql", strings.NewReader(string(body)))
	if err != nil {
		return s.fails("%v", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+s.token)
	began := time.Now()
	response, err := s.client.Do(r)
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(response.Body)
	}
	switch {
	case err != nil && s.stopping.Load():
		s.mu.Lock()
		s.turnedOff++
		s.mu.Unlock()
		return false
	case err != nil:
		return s.fails("%v", err)
	}
	var got struct {
		Data   json.RawMessage
		Errors json.RawMessage
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Errors != nil {
		return s.fails("%s: %s", document, body)
	}
	if err := json.Unmarshal(got.Data, into); err != nil {
		return s.fails("%v", err)
	}
	s.mu.Lock()
	s.latencies = append(s.latencies, time.Since(began))
	s.mu.Unlock()
	return true
}

func (s *soaking) fails(format string, args ...any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, fmt.Sprintf(format, args...))
	return false
}

// work asks one thing after another: half of them reads.
func (s *soaking) work(ctx context.Context, worker int, random *rand.Rand) {
	var mine []string
	var ignored map[string]any
	change := func(verb, id string) bool {
		return s.ask(ctx, `mutation($id: ID!) { `+verb+`(input: {select: {ids: [$id]}}) { operation { id status } } }`, map[string]any{"id": id}, &ignored)
	}
	for n := 0; ctx.Err() == nil && !s.stopping.Load(); n++ {
		switch action := random.IntN(10); {
		case action < 2 || len(mine) == 0:
			var created struct {
				CreateCustomer struct{ Customer struct{ ID string } }
			}
			if s.ask(ctx, `mutation($name: String!) { createCustomer(input: {name: $name}) { customer { id } } }`, map[string]any{"name": fmt.Sprintf("Soaked %d %d", worker, n)}, &created) {
				id := created.CreateCustomer.Customer.ID
				mine = append(mine, id)
				s.mu.Lock()
				s.created[id] = true
				s.mu.Unlock()
			}
		case action < 3:
			s.ask(ctx, `mutation($id: ID!) { createNote(input: {customerID: $id, body: "a note of the soak", kind: MEETING, happenedAt: "2026-01-01T00:00:00Z"}) { note { id } } }`, map[string]any{"id": mine[random.IntN(len(mine))]}, &ignored)
		case action < 5:
			id := mine[random.IntN(len(mine))]
			if change("deleteRecords", id) {
				change("restoreRecords", id)
			}
		case action < 8:
			s.ask(ctx, `{ customers(first: 20, orderBy: {field: CREATED_AT, direction: DESC}) { nodes { id name viewerCan notes(first: 5) { nodes { body } } } pageInfo { hasNextPage } } }`, nil, &ignored)
		case action < 9:
			s.ask(ctx, `query($id: ID!) { node(id: $id) { ... on Customer { name state history(first: 5) { nodes { action at } } } } }`, map[string]any{"id": mine[random.IntN(len(mine))]}, &ignored)
		default:
			s.ask(ctx, fmt.Sprintf(`{ customers(first: 10, search: "soaked %d") { nodes { id } } bin(first: 10) { nodes { id } } }`, worker), nil, &ignored)
		}
	}
}

// metrics are what the server says of itself.
func (s *soaking) metrics() map[string]float64 {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/metrics", nil)
	require.NoError(s, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(s, err)
	defer response.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			out[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return out
}

// listener is a subscription to the customers that are created.
type listener struct {
	s    *soaking
	done chan struct{}

	mu    sync.Mutex
	heard map[string]int
	wrong []string
}

const soakEvents = `subscription { recordChanged(types: [CUSTOMER]) { action recordID record { id state } } }`

// listen subscribes, by sockets and by events in turn, and waits until all hear.
func (s *soaking) listen() []*listener {
	s.Helper()
	var all []*listener
	for i := range soakSubscriptions {
		l := &listener{s: s, done: make(chan struct{}), heard: map[string]int{}}
		all = append(all, l)
		if i%2 == 0 {
			conn := dial(s.T, s.url, s.token)
			conn.subscribe("s", soakEvents)
			go l.hear(func() ([]byte, error) {
				_, text, err := conn.conn.Read(context.WithoutCancel(s.Context()))
				if websocket.CloseStatus(err) == websocket.StatusGoingAway {
					err = io.EOF
				}
				return text, err
			})
			continue
		}
		r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.url+"/graphql", strings.NewReader(`{"query":"`+soakEvents+`"}`))
		require.NoError(s, err)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+s.token)
		response, err := s.client.Do(r)
		require.NoError(s, err)
		s.Cleanup(func() { _ = response.Body.Close() })
		lines := bufio.NewReader(response.Body)
		go l.hear(func() ([]byte, error) {
			for {
				line, err := lines.ReadString('\n')
				if text, ok := strings.CutPrefix(line, "data: "); ok || err != nil {
					return []byte(text), err
				}
			}
		})
	}
	// Those who have not subscribed yet would miss the first.
	var created struct {
		CreateCustomer struct{ Customer struct{ ID string } }
	}
	require.Eventually(s, func() bool {
		require.True(s, s.ask(s.Context(), `mutation { createCustomer(input: {name: "Heard by all"}) { customer { id } } }`, nil, &created), "%v", s.failures)
		s.created[created.CreateCustomer.Customer.ID] = true
		time.Sleep(100 * time.Millisecond)
		return !slices.ContainsFunc(all, func(l *listener) bool { return l.count() == 0 })
	}, 20*time.Second, time.Millisecond)
	for _, l := range all {
		l.mu.Lock()
		clear(l.heard)
		for id := range s.created { // whether it heard of these does not matter
			l.heard[id] = 1
		}
		l.mu.Unlock()
	}
	return all
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard)
}

// hear notes what comes until the server stops.
func (l *listener) hear(next func() ([]byte, error)) {
	defer close(l.done)
	for {
		text, err := next()
		var m struct {
			Data    json.RawMessage
			Payload struct{ Data json.RawMessage }
		}
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if m.Data == nil {
			m.Data = m.Payload.Data
		}
		var event struct {
			RecordChanged *struct {
				Action, RecordID string
				Record           *struct{ ID, State string }
			}
		}
		if err == nil {
			err = json.Unmarshal(m.Data, &event)
		}
		l.mu.Lock()
		switch {
		case errors.Is(err, io.EOF):
		case err != nil:
			l.wrong = append(l.wrong, fmt.Sprintf("%v: %s", err, text))
		case event.RecordChanged == nil:
			l.wrong = append(l.wrong, string(text))
		case event.RecordChanged.Action == "CREATE":
			l.heard[event.RecordChanged.RecordID]++
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// heardOf reports whether it has heard of all of some customers.
func (l *listener) heardOf(all map[string]bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range all {
		if l.heard[id] == 0 {
			return false
		}
	}
	return true
}

// check insists that it heard of nothing else than of customers, once of each.
func (l *listener) check(i int, there map[string]bool) {
	l.s.Helper()
	<-l.done
	require.Empty(l.s, l.wrong, "subscription %d", i)
	for id, times := range l.heard {
		require.Equal(l.s, 1, times, "subscription %d heard of %s", i, id)
		require.True(l.s, there[id], "subscription %d heard of %s, which is not there", i, id)
	}
}
