package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/store"
)

// figures are what one server did at one workload.
type figures struct {
	Requests   int           `json:"requests"`
	Failed     int           `json:"failed,omitempty"`
	Throughput float64       `json:"throughput"` // requests a second
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
	Server     time.Duration `json:"serverCPU"`   // a request
	Database   time.Duration `json:"databaseCPU"` // a request
	Resident   int64         `json:"resident"`    // bytes, at most
}

// comparison is a row of the table.
type comparison struct {
	Name    string  `json:"name"`
	Title   string  `json:"title"`
	Aim     string  `json:"aim,omitempty"`
	Records int     `json:"records,omitempty"`
	Lethe   figures `json:"lethe"`
	Limit   figures `json:"limit"`
}

// result is what a run found.
type result struct {
	sqlite   bool
	Machine  string           `json:"machine"`
	Database string           `json:"database"`
	Size     string           `json:"size"`
	Load     string           `json:"load"`
	Startups []startup        `json:"startups"`
	Memory   map[string]int64 `json:"memory"` // high water in bytes
	Rows     []comparison     `json:"rows"`
}

func (b *bench) newResult(ctx context.Context) (*result, error) {
	query := `SELECT 'SQLite ' || sqlite_version()`
	if !b.sqlite {
		query = `SELECT 'PostgreSQL ' || current_setting('server_version')`
	}
	r := &result{
		sqlite: b.sqlite, Machine: machine(), Startups: b.startups,
		Size: fmt.Sprintf("%d customers, %d messages", b.customers, b.messages),
		Load: fmt.Sprintf("%d connections, %d turns of %s each", b.connections, b.rounds, b.slice),
	}
	_, err := store.Build(b.db).Add(query).One(ctx, b.db, &r.Database)
	return r, err
}

// machine is where it ran, as far as that matters.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores (%s), %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

func summarize(turns []*turn) figures {
	var f figures
	var elapsed, server, database time.Duration
	var latencies []time.Duration
	for _, t := range turns {
		f.Requests, f.Failed = f.Requests+t.requests, f.Failed+t.failed
		elapsed, server, database = elapsed+t.elapsed, server+t.server, database+t.database
		latencies = append(latencies, t.latencies...)
		f.Resident = max(f.Resident, t.resident)
	}
	if f.Requests == 0 {
		return f
	}
	slices.Sort(latencies)
	f.P50, f.P99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	f.Throughput = float64(f.Requests) / elapsed.Seconds()
	f.Server, f.Database = server/time.Duration(f.Requests), database/time.Duration(f.Requests)
	return f
}

func (r *result) add(w *workload, lethe, limit figures) {
	r.Rows = append(r.Rows, comparison{w.name, w.title, w.aim, w.records, lethe, limit})
}

// table is the result in Markdown.
func (r *result) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s; %s; %s.\n\n", r.Database, r.Machine, r.Size, r.Load)
	b.WriteString("| work | | requests/s | p50 | p99 | CPU a request | and in the database | memory |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range r.Rows {
		for _, side := range []struct {
			name string
			f    figures
		}{{"Lethe", c.Lethe}, {"limit", c.Limit}} {
			title := ""
			if side.name == "Lethe" {
				title = fmt.Sprintf("(%s) %s", c.Name, c.Title)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %.0f MB |\n", title, side.name, rate(side.f.Throughput), milliseconds(side.f.P50), milliseconds(side.f.P99),
				milliseconds(side.f.Server), inDatabase(side.f.Database), float64(side.f.Resident)/1e6)
		}
	}
	b.WriteString("\n| work | Lethe's share of the limit's throughput | aim | CPU a request, times the limit's | aim |\n|---|--:|--:|--:|--:|\n")
	for _, c := range r.Rows {
		aim, aimCPU := c.Aim, ""
		if aim != "" {
			aim = "at least " + aim
		}
		if c.Name == "a" || c.Name == "b" {
			aimCPU = "at most 2"
		}
		fmt.Fprintf(&b, "| (%s) | %s %% | %s | %s | %s |\n", c.Name, ratio(100*c.Lethe.Throughput, c.Limit.Throughput, 0), aim,
			ratio(float64(c.Lethe.Server), float64(c.Limit.Server), 1), aimCPU)
	}
	for _, c := range r.Rows {
		for name, f := range map[string]figures{"Lethe": c.Lethe, "The limit": c.Limit} {
			if f.Failed > 0 {
				fmt.Fprintf(&b, "\n**%s answered %d requests of (%s) with an error**; they were sent again, and count as one long request.\n", name, f.Failed, c.Name)
			}
		}
	}
	b.WriteString("\n| from start to ready | |\n|---|--:|\n")
	for _, s := range r.Startups {
		fmt.Fprintf(&b, "| %s, %s | %s |\n", map[string]string{"lethe": "Lethe", "limit": "limit"}[s.Server], s.On, milliseconds(s.Time))
	}
	fmt.Fprintf(&b, "\nThe most memory each ever held, of the whole run: Lethe %.0f MB (aim: at most 100 MB under load), limit %.0f MB.\n",
		float64(r.Memory["lethe"])/1e6, float64(r.Memory["limit"])/1e6)
	return b.String()
}

func ratio(a, b float64, digits int) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, a/b)
}

func rate(f float64) string {
	if f < 100 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// inDatabase is what PostgreSQL took; SQLite runs within the server.
func inDatabase(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return milliseconds(d)
}

func (r *result) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// rewrite puts the table between the markers of its database.
func (r *result) rewrite(path string) error {
	name := "postgres"
	if r.sqlite {
		name = "sqlite"
	}
	return rewrite(path, name, r.table())
}

// rewrite replaces the part of a file that has a name.
func rewrite(path, name, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return errors.New(filepath.Base(path) + " has no place for " + name)
	}
	return os.WriteFile(path, []byte(before+begin+"\n"+table+"\n"+end+after), 0o644) //nolint:gosec // a file for everyone to read
}
