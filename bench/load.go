package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tries is how often a request is sent that fails.
const tries = 50

// warmUp is the part of a turn that is not measured.
const warmUp = 4 // a quarter

// turn is what was measured while one server had its turn.
type turn struct {
	requests  int
	failed    int // answers that were not what they should be
	elapsed   time.Duration
	latencies []time.Duration
	server    time.Duration // CPU
	database  time.Duration // CPU
	resident  int64
}

// load sends requests over all connections, for a time that is not measured and
// one that is.
func (b *bench) load(ctx context.Context, s *server, w *workload) (*turn, error) {
	clients := make([]*client, b.connections)
	for i := range clients {
		c, err := dial(s.address)
		if err != nil {
			return nil, err
		}
		defer c.close()
		clients[i] = c
	}
	serverBefore, databaseBefore, begin := cpu(s.pid()), b.databaseCPU(), time.Now()
	var measuring, stopped atomic.Bool
	var failed atomic.Int64
	var wg sync.WaitGroup
	latencies, failures := make([][]time.Duration, len(clients)), make([]error, len(clients))
	for i, c := range clients {
		next := w.next(s, i)
		wg.Go(func() {
			between := true
			for !stopped.Load() || !between {
				request, check, last := next()
				if request == nil {
					return
				}
				begin := time.Now()
				err := c.insist(request, check, &failed)
				took := time.Since(begin)
				if err != nil {
					failures[i] = err
					stopped.Store(true)
					return
				}
				if w.whole || measuring.Load() && !stopped.Load() {
					latencies[i] = append(latencies[i], took)
				}
				between = last
			}
		})
	}
	over := make(chan struct{}) // when nothing is left to ask for, or all has failed
	go func() {
		wg.Wait()
		close(over)
	}()
	t := &turn{}
	if !w.whole {
		b.wait(ctx, s, b.slice/warmUp, over, t)
		serverBefore, databaseBefore, begin = cpu(s.pid()), b.databaseCPU(), time.Now()
	}
	measuring.Store(true)
	profiled := b.startProfile(ctx, s, w)
	b.wait(ctx, s, b.slice, over, t)
	stopped.Store(true)
	if w.whole {
		<-over
	}
	t.elapsed, t.server, t.database = time.Since(begin), cpu(s.pid())-serverBefore, b.databaseCPU()-databaseBefore
	<-over
	for i := range clients {
		t.latencies = append(t.latencies, latencies[i]...)
	}
	t.requests, t.failed = len(t.latencies), int(failed.Load())
	return t, errors.Join(errors.Join(failures...), profiled(), ctx.Err())
}

// insist sends a request until the answer is what it should be: one that failed
// in between counts as a long one, and as failed.
func (c *client) insist(request []byte, check func([]byte) error, failed *atomic.Int64) error {
	for try := 1; ; try++ {
		body, err := c.do(request)
		if err != nil {
			return err
		}
		if err = check(body); err == nil || try == tries {
			return err
		}
		failed.Add(1)
	}
}

// wait lets time pass and notes the memory of the server.
func (b *bench) wait(ctx context.Context, s *server, d time.Duration, over <-chan struct{}, t *turn) {
	end := time.After(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		t.resident = max(t.resident, memory(s.pid(), "VmRSS"))
		select {
		case <-tick.C:
		case <-end:
			return
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (b *bench) databaseCPU() time.Duration {
	if b.postmaster == 0 {
		return 0
	}
	return treeCPU(b.postmaster)
}

// startProfile fetches a profile of a server while it is loaded.
func (b *bench) startProfile(ctx context.Context, s *server, w *workload) (wait func() error) {
	if s.pprof == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.pprof, max(1, int(b.slice.Seconds())))
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if err := os.MkdirAll(b.profile, 0o750); err != nil {
				return err
			}
			f, err := os.Create(filepath.Join(b.profile, b.name()+"-"+w.name+"-"+s.name+".pprof"))
			if err != nil {
				return err
			}
			_, err = io.Copy(f, res.Body)
			return errors.Join(err, f.Close())
		}()
	}()
	return func() error { return <-done }
}

// measure gives both servers their turns at each workload.
func (b *bench) measure(ctx context.Context, m *material) (*result, error) {
	r, err := b.newResult(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range b.workloads(m) {
		if !b.wanted(w.name) {
			continue
		}
		turns := map[*server][]*turn{}
		for round := range b.rounds {
			order := []*server{b.lethe, b.limit}
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, s := range order {
				t, err := b.load(ctx, s, w)
				if err != nil {
					return nil, fmt.Errorf("(%s) on %s: %w\n%s", w.name, s.name, err, s.output())
				}
				turns[s] = append(turns[s], t)
				sayf("(%s) %s: %d requests in %s", w.name, s.name, t.requests, t.elapsed.Round(time.Millisecond))
				if w.after != nil {
					if err := w.after(ctx); err != nil {
						return nil, err
					}
				}
			}
		}
		r.add(w, summarize(turns[b.lethe]), summarize(turns[b.limit]))
	}
	r.Memory = map[string]int64{b.lethe.name: memory(b.lethe.pid(), "VmHWM"), b.limit.name: memory(b.limit.pid(), "VmHWM")}
	return r, nil
}
