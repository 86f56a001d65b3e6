package export_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/ent"
	exported "github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/export"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

var customers = export.Spec{Type: "Customer", Format: export.CSV}

// keys are those of the bytes that are there.
func (w *world) keys() (all []string) {
	w.Helper()
	w.NoError(w.blobs.Keys(w.Context(), func(key string, _ int64) error { all = append(all, key); return nil }))
	return all
}

// fetch asks for a file as the server does.
func (w *world) fetch(as, link string) *httptest.ResponseRecorder {
	w.Helper()
	target, err := url.Parse(link)
	w.NoError(err)
	r := httptest.NewRequestWithContext(w.Context(), http.MethodGet, target.RequestURI(), nil)
	if as != "" {
		r = r.WithContext(actor.With(r.Context(), actor.From(w.as(as))))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /exports/{id}", w.exports)
	out := httptest.NewRecorder()
	mux.ServeHTTP(out, r)
	return out
}

func TestAnExportIsMadeInTheBackground(t *testing.T) {
	each(t, func(w *world) {
		var ended []string
		w.exports.Ended = func(format, status string) { ended = append(ended, format+" "+status) }
		defer func() { w.Equal([]string{"CSV SUCCEEDED"}, ended[:1]) }()
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("compliance"), customers)
		w.NoError(err)
		w.Equal(exported.StatusPENDING, w.export(id).Status)
		w.work()
		e := w.export(id)
		w.Equal(exported.StatusSUCCEEDED, e.Status)
		w.True(e.Complete)
		w.Equal(1, e.Rows)
		w.Equal([]string{blob.Key(w.tenant, *e.BlobID)}, w.keys())
		w.Empty(w.rows(`SELECT blob_key FROM blob_spares`))
		w.Len(w.rows(`SELECT record_id FROM export_rows`), 1)
		w.NoError(w.exports.Work(w.Context(), w.tenant, id), "a job that comes twice does nothing")
		w.Equal([]string{blob.Key(w.tenant, *e.BlobID)}, w.keys())

		link, err := w.exports.LinkTo(w.as("compliance"), e)
		w.NoError(err)
		w.True(strings.HasPrefix(link, "https://lethe.example/exports/"+id.String()+"?"), link)
		got := w.fetch("", link)
		w.Equal(http.StatusOK, got.Code)
		rows, err := csv.NewReader(got.Body).ReadAll()
		w.NoError(err)
		w.Len(rows, 2)
		w.Contains(got.Header().Get("Content-Disposition"), "customers-20260301-")
		w.NotNil(w.export(id).DownloadedAt)
		w.Equal([]string{"EXPORT_REQUEST", "EXPORT_FINISH", "EXPORT_DOWNLOAD"}, w.rows(`SELECT action FROM audit_events WHERE action LIKE 'EXPORT%' ORDER BY id`))

		// Its days are over.
		w.clock.add(7 * 24 * time.Hour)
		n, err := w.exports.Expire(w.Context())
		w.NoError(err)
		w.Equal(1, n)
		_, err = w.blobs.Sweep(w.Context(), w.db)
		w.NoError(err)
		w.Empty(w.keys())
		e = w.export(id)
		w.Equal(exported.StatusEXPIRED, e.Status)
		w.NotNil(e.Manifest, "the proof stays")
		w.Len(w.rows(`SELECT record_id FROM export_rows`), 1, "it was fetched")
		w.Equal(http.StatusNotFound, w.fetch("compliance", "/exports/"+id.String()).Code)
	})
}

func TestEveryFetchOfAFileIsInTheLog(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		e := w.asked("compliance", customers)
		link, err := w.exports.LinkTo(w.as("compliance"), e)
		w.NoError(err)
		for i, header := range []http.Header{{"Range": {"bytes=-999999999"}}, {"Range": {"bytes= 0-"}}, {"Range": {"bytes=1-"}}, {"Range": {"bytes=5-9"}, "If-Range": {`"stale"`}}} {
			target, err := url.Parse(link)
			w.NoError(err)
			r := httptest.NewRequestWithContext(w.Context(), http.MethodGet, target.RequestURI(), nil)
			r.Header = header
			mux := http.NewServeMux()
			mux.Handle("GET /exports/{id}", w.exports)
			out := httptest.NewRecorder()
			mux.ServeHTTP(out, r)
			w.Contains([]int{http.StatusOK, http.StatusPartialContent}, out.Code)
			w.Len(w.rows(`SELECT id FROM audit_events WHERE action = 'EXPORT_DOWNLOAD'`), i+1, "%v", header)
		}
		w.NotNil(w.export(e.ID).DownloadedAt)
	})
}

func TestALinkIsForOneFileOneUserAndAWhile(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		e, other := w.asked("manager", customers), w.asked("manager", customers)
		link, err := w.exports.LinkTo(w.as("manager"), e)
		w.NoError(err)
		parsed, err := url.Parse(link)
		w.NoError(err)
		forged := func(change func(url.Values)) string {
			query := parsed.Query()
			change(query)
			return parsed.Path + "?" + query.Encode()
		}
		w.Equal(http.StatusNotFound, w.fetch("", "/exports/"+other.ID.String()+"?"+parsed.RawQuery).Code)
		w.Equal(http.StatusNotFound, w.fetch("", forged(func(q url.Values) { q.Set("user", w.users["admin"].String()) })).Code)
		w.Equal(http.StatusNotFound, w.fetch("", forged(func(q url.Values) { q.Set("expires", "99999999999") })).Code)
		w.Equal(http.StatusNotFound, w.fetch("admin", forged(func(q url.Values) { q.Set("signature", "x") })).Code, "who shows a link means it")
		w.Equal(http.StatusNotFound, w.fetch("", "/exports/nonsense?"+parsed.RawQuery).Code)
		w.Equal(http.StatusOK, w.fetch("", link).Code)

		// With a session: who asked for it, and who may read the exports of others.
		for as, want := range map[string]int{"manager": 200, "compliance": 200, "admin": 200, "agent": 404, "purger": 404, "": 404} {
			w.Equal(want, w.fetch(as, "/exports/"+e.ID.String()).Code, as)
		}
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["manager"])
		w.Equal(http.StatusNotFound, w.fetch("", link).Code, "who left has no links")
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, true, w.users["manager"])
		w.Equal(http.StatusOK, w.fetch("", link).Code)
		w.clock.add(15*time.Minute + time.Second)
		w.Equal(http.StatusNotFound, w.fetch("", link).Code)
	})
}

// torn is a queue entry that was taken up by a process which is gone: it said so,
// and wrote some.
func (w *world) torn(id gid.ID) {
	w.Helper()
	key := gid.New(gid.Export)
	w.exec(`UPDATE exports SET status = 'RUNNING', attempt = attempt + 1, worked_at = ?, blob_id = ? WHERE id = ?`, w.db.Now(), key, id)
	w.exec(`INSERT INTO export_rows (tenant_id, export_id, record_id, version, content) VALUES (?, ?, ?, 1, ?)`, w.tenant, id, gid.New(gid.Customer), []byte("x"))
	w.exec(`INSERT INTO blob_spares (blob_key, until, going) VALUES (?, ?, ?)`, blob.Key(w.tenant, key), w.db.Now().Add(24*time.Hour), false)
	_, err := w.blobs.Write(w.Context(), blob.Key(w.tenant, key), strings.NewReader("half"))
	w.NoError(err)
}

func TestAnExportThatWasLeftIsMadeAgainOnce(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("admin"), customers)
		w.NoError(err)
		w.jobs.take()
		w.clock.add(time.Minute)
		n, err := w.exports.TakeUp(w.Context(), false)
		w.NoError(err)
		w.Zero(n, "what waits behind others is in the queue already")
		w.Empty(w.jobs.take())
		w.torn(id)
		w.NoError(w.exports.Work(w.Context(), w.tenant, id))
		w.Equal(exported.StatusRUNNING, w.export(id).Status, "somebody may be at it")
		n, err = w.exports.TakeUp(w.Context(), false)
		w.NoError(err)
		w.Zero(n)
		w.clock.add(16 * time.Second)
		n, err = w.exports.TakeUp(w.Context(), false)
		w.NoError(err)
		w.Equal(1, n)
		w.work()
		e := w.export(id)
		w.Equal(exported.StatusSUCCEEDED, e.Status)
		w.Len(w.rows(`SELECT record_id FROM export_rows`), 1)
		w.Len(w.keys(), 2)
		w.clock.add(25 * time.Hour)
		_, err = w.blobs.Sweep(w.Context(), w.db)
		w.NoError(err)
		w.Equal([]string{blob.Key(w.tenant, *e.BlobID)}, w.keys(), "no bytes are left behind")
	})
}

func TestWhoWasOvertakenFinishesNothing(t *testing.T) {
	each(t, func(w *world) {
		for i := range 450 { // more than two pages
			w.create("admin", "Note", map[string]any{"body": fmt.Sprint(i), "happenedAt": w.db.Now()})
		}
		id, err := w.exports.Create(w.as("admin"), export.Spec{Type: "Note", Format: export.CSV})
		w.NoError(err)
		w.jobs.take()
		// Another takes it up while it is written: before the first page is written down.
		w.exports.ActAs = func(ctx context.Context, tenant, user gid.ID) (*actor.Actor, error) {
			w.exec(`UPDATE exports SET attempt = attempt + 1, status = 'PENDING' WHERE id = ?`, id)
			w.exports.ActAs = w.actAs
			return w.actAs(ctx, tenant, user)
		}
		w.NoError(w.exports.Work(w.Context(), w.tenant, id))
		w.Equal(exported.StatusPENDING, w.export(id).Status)
		w.Empty(w.rows(`SELECT record_id FROM export_rows`))
		w.Empty(w.keys(), "of what was not finished nothing is kept")
		w.NoError(w.exports.Work(w.Context(), w.tenant, id))
		w.Equal(450, w.export(id).Rows)
		w.Len(w.rows(`SELECT record_id FROM export_rows`), 450)
		w.Len(w.rows(`SELECT id FROM audit_events WHERE action = 'EXPORT_FINISH'`), 1)
	})
}

func TestAnExportIsWhatItsRequesterMayDoByThen(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("manager"), customers)
		w.NoError(err)
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["manager"])
		w.work()
		w.Equal(exported.StatusFAILED, w.export(id).Status)
		w.Equal("FORBIDDEN", *w.export(id).Code)
		w.Empty(w.keys())
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, true, w.users["manager"])

		id, err = w.exports.Create(w.as("manager"), customers)
		w.NoError(err)
		w.hide("manager", "Customer.email")
		w.refreshed()
		w.work()
		w.Equal(map[string]int{"email": 1}, manifest(w, w.export(id)).Masked)
		w.False(w.export(id).Complete)
		w.Empty(w.rows(`SELECT record_id FROM export_rows`), "it stands for nothing")
	})
}

func TestExportsAreCancelledAndDeleted(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("manager"), customers)
		w.NoError(err)
		w.fails(lifecycle.IllegalTransition, w.exports.Delete(w.as("manager"), id))
		w.fails(lifecycle.NotFound, w.exports.Cancel(w.as("agent"), id))
		w.NoError(w.exports.Cancel(w.as("manager"), id))
		w.work()
		w.Equal(exported.StatusCANCELLED, w.export(id).Status)
		w.Empty(w.keys())
		w.fails(lifecycle.IllegalTransition, w.exports.Cancel(w.as("manager"), id))

		e := w.asked("manager", customers)
		w.NoError(w.exports.Delete(w.as("compliance"), e.ID))
		w.NoError(w.exports.Delete(w.as("compliance"), e.ID), "twice is once")
		w.Equal(exported.StatusEXPIRED, w.export(e.ID).Status)
		w.Empty(w.rows(`SELECT record_id FROM export_rows`))
		_, err = w.blobs.Sweep(w.Context(), w.db)
		w.NoError(err)
		w.Empty(w.keys())

		for range 20 {
			_, err := w.exports.Create(w.as("manager"), customers)
			w.NoError(err)
		}
		_, err = w.exports.Create(w.as("manager"), customers)
		w.fails(lifecycle.Limit, err)
	})
}

func TestAFailureIsGivenUpInTheEnd(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		id, err := w.exports.Create(w.as("admin"), customers)
		w.NoError(err)
		w.exports.ActAs = func(context.Context, gid.ID, gid.ID) (*actor.Actor, error) { return nil, io.ErrUnexpectedEOF }
		w.ErrorIs(w.exports.Work(w.Context(), w.tenant, id), io.ErrUnexpectedEOF)
		w.Equal(exported.StatusPENDING, w.export(id).Status)
		w.NoError(w.exports.GiveUp(w.Context(), w.tenant, id))
		w.Equal([]any{exported.StatusFAILED, "INTERNAL"}, []any{w.export(id).Status, *w.export(id).Code})
	})
}

func TestAScheduleAsksInTheNameOfWhoMadeIt(t *testing.T) {
	each(t, func(w *world) {
		w.customer("admin", "one")
		for _, wrong := range []string{"", "* * * *", "@every 1s", "TZ=Europe/Moscow 0 3 * * *", "0 0 30 2 *", "61 * * * *", strings.Repeat("1,", 200)} {
			_, err := w.exports.CreateSchedule(w.as("manager"), export.Schedule{Spec: customers, Every: wrong, Keep: 2})
			w.fails(lifecycle.BadUserInput, err)
		}
		_, err := w.exports.CreateSchedule(w.as("agent"), export.Schedule{Spec: customers, Every: "@daily", Keep: 2})
		w.fails(lifecycle.Forbidden, err)
		_, err = w.exports.CreateSchedule(w.as("manager"), export.Schedule{Spec: customers, Every: "@daily", Keep: 0})
		w.fails(lifecycle.BadUserInput, err)
		id, err := w.exports.CreateSchedule(w.as("manager"), export.Schedule{Spec: customers, Every: "30 3 * * *", Keep: 2})
		w.NoError(err)
		row := func() *ent.ExportSchedule {
			s, err := w.records.Client(w.everything()).ExportSchedule.Get(w.everything(), id)
			w.NoError(err)
			return s
		}
		w.Equal(time.Date(2026, 3, 2, 3, 30, 0, 0, time.UTC), row().NextRunAt.UTC())
		due := func() int {
			n, err := w.exports.RunSchedules(w.Context())
			w.NoError(err)
			return n
		}
		w.Zero(due())
		for day := range 4 {
			w.clock.add(24 * time.Hour)
			w.Equal(1, due(), "day %d", day)
			w.Zero(due())
			w.work()
		}
		w.Equal([]string{"EXPIRED", "EXPIRED", "SUCCEEDED", "SUCCEEDED"}, w.rows(`SELECT status FROM exports ORDER BY id`))
		_, err = w.blobs.Sweep(w.Context(), w.db)
		w.NoError(err)
		w.Len(w.keys(), 2)
		w.clock.add(30 * 24 * time.Hour)
		n, err := w.exports.Expire(w.Context())
		w.NoError(err)
		w.Zero(n, "it keeps the newest, however old")
		w.Equal(1, due(), "what was missed is made up for once")
		w.Zero(due())
		w.clock.add(24 * time.Hour)
		w.Zero(due(), "the one before is still under way")
		w.work()

		w.clock.add(24 * time.Hour)
		w.exec(`UPDATE users SET active = ? WHERE id = ?`, false, w.users["manager"])
		w.Zero(due())
		w.Equal("FORBIDDEN", *row().Code)
		w.Nil(row().NextRunAt, "who left does not come back by himself")
		w.NoError(w.exports.RemoveSchedule(w.as("compliance"), id))
		w.fails(lifecycle.NotFound, w.exports.RemoveSchedule(w.as("compliance"), id))
		w.clock.add(8 * 24 * time.Hour)
		n, err = w.exports.Expire(w.Context())
		w.NoError(err)
		w.Equal(2, n, "its files go as others do")
	})
}
