package export

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/export"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// linkLife is how long a link is good for.
const linkLife = 15 * time.Minute

// errNoFile says that there is no such file, or not for whoever asks.
var errNoFile = errors.New("export: there is no such file")

// LinkTo is where the actor fetches the file of an export that he may read: without
// another credential, for 15 minutes. It is empty where there is no file.
func (s *Service) LinkTo(ctx context.Context, e *ent.Export) (string, error) {
	a := actor.From(ctx)
	if e.Status != export.StatusSUCCEEDED || e.BlobID == nil || a.User.IsZero() {
		return "", nil
	}
	until := s.DB.Now().Add(linkLife).Unix()
	sum, err := s.signature(e.TenantID, e.ID, a.User, until)
	if err != nil {
		return "", err
	}
	query := url.Values{"user": {a.User.String()}, "expires": {strconv.FormatInt(until, 10)}, "signature": {sum}}
	return strings.TrimSuffix(s.PublicURL, "/") + "/exports/" + e.ID.String() + "?" + query.Encode(), nil
}

// signature is under a key for links only: what is signed for one purpose is worth
// nothing for another.
func (s *Service) signature(tenant, id, user gid.ID, until int64) (string, error) {
	key, err := s.Audit.Keys().Tenant(tenant)
	if err != nil {
		return "", err
	}
	if key, err = hkdf.Key(sha256.New, key, nil, "lethe export link", sha256.Size); err != nil {
		return "", fmt.Errorf("deriving the key of links: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(id[:])
	mac.Write(user[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(until))) //nolint:gosec // of both signs, the same bytes
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// ServeHTTP gives the file of the export that the path names to who has a link, or
// is signed in and may read it. Everybody else is told that there is none.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, a, err := s.fetched(r)
	if err != nil {
		if !errors.Is(err, errNoFile) {
			s.Log.ErrorContext(r.Context(), "an export could not be fetched", "error", err)
			http.Error(w, "The file cannot be read just now; try again.", http.StatusServiceUnavailable)
			return
		}
		http.Error(w, "There is no such file, or the link has expired.", http.StatusNotFound)
		return
	}
	ctx := actor.With(r.Context(), a)
	file, err := s.Blobs.Open(ctx, blob.Key(e.TenantID, *e.BlobID))
	if err != nil {
		s.Log.ErrorContext(ctx, "an export could not be fetched", "export", e.ID, "error", err)
		http.Error(w, "The file cannot be read just now; try again.", http.StatusServiceUnavailable)
		return
	}
	defer file.Close()
	if r.Method == http.MethodGet { // whatever part of it: a range may be all but a byte
		if err := s.noteFetched(ctx, e); err != nil {
			s.Log.ErrorContext(ctx, "an export could not be fetched", "export", e.ID, "error", err)
			http.Error(w, "The file cannot be read just now; try again.", http.StatusServiceUnavailable)
			return
		}
	}
	name, kind := fileOf(e)
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	if m, err := ManifestOf(e); err == nil && m != nil {
		w.Header().Set("ETag", `"`+m.SHA256+`"`)
	}
	at := e.CreatedAt
	if e.FinishedAt != nil {
		at = *e.FinishedAt
	}
	http.ServeContent(w, r, "", at, file)
}

// fileOf is the name of a file, and its media type.
func fileOf(e *ent.Export) (name, kind string) {
	format := Format(e.Format)
	table := e.RecordType
	if t := ent.RecordTypeNamed(e.RecordType); t != nil {
		table = t.Table
	}
	name = table + "-" + e.CreatedAt.UTC().Format("20060102-150405") + format.Extension()
	switch {
	case len(e.EncryptTo) > 0:
		return name + ".age", "application/octet-stream"
	case format == CSV:
		return name, "text/csv; charset=utf-8"
	case format == XLSX:
		return name, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	}
	return name, "application/jsonl"
}

// fetched is the export that a request may have, and who has it.
func (s *Service) fetched(r *http.Request) (*ent.Export, *actor.Actor, error) {
	id, err := gid.Parse(r.PathValue("id"))
	if err != nil || id.Type() != gid.Export {
		return nil, nil, errNoFile
	}
	ctx := r.Context()
	a := actor.From(ctx)
	if query := r.URL.Query(); query.Has("signature") {
		if a, err = s.linked(ctx, id, query); err != nil {
			return nil, nil, err
		}
	}
	if a == nil {
		return nil, nil, errNoFile
	}
	reading, _, err := s.reads(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	e, err := s.Records.Client(reading).Export.Get(reading, id)
	switch {
	case ent.IsNotFound(err):
		return nil, nil, errNoFile
	case err != nil:
		return nil, nil, fmt.Errorf("reading an export: %w", err)
	case e.Status != export.StatusSUCCEEDED || e.BlobID == nil:
		return nil, nil, errNoFile
	}
	return e, a, nil
}

// linked is whom a link was given to, as he is now: who left, or may not read the
// export any more, has a link that is worth nothing.
func (s *Service) linked(ctx context.Context, id gid.ID, query url.Values) (*actor.Actor, error) {
	all := visible.With(ctx, visible.Everything)
	e, err := s.Records.Client(all).Export.Get(all, id)
	if ent.IsNotFound(err) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, fmt.Errorf("reading an export: %w", err)
	}
	until, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil {
		return nil, errNoFile
	}
	user, err := gid.Parse(query.Get("user"))
	if err != nil {
		return nil, errNoFile
	}
	sum, err := s.signature(e.TenantID, id, user, until)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal([]byte(sum), []byte(query.Get("signature"))) || s.DB.Now().Unix() > until {
		return nil, errNoFile
	}
	a, err := s.ActAs(ctx, e.TenantID, user)
	if errors.Is(err, record.ErrLeft) {
		return nil, errNoFile
	}
	return a, err
}

// noteFetched says who fetched a file, before he has its first byte.
func (s *Service) noteFetched(ctx context.Context, e *ent.Export) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err := store.Build(tx).Add(`UPDATE exports SET downloaded_at = COALESCE(downloaded_at, ?) WHERE id = ? AND status = 'SUCCEEDED'`, tx.Now(), e.ID).Exec(ctx, tx)
		if err != nil {
			return fmt.Errorf("noting who fetched an export: %w", err)
		}
		if n == 0 {
			return errNoFile
		}
		detail := map[string]any{}
		if e.ManifestSha256 != nil {
			detail["exportManifest"] = *e.ManifestSha256
		}
		return s.log(ctx, tx, "EXPORT_DOWNLOAD", e.ID, e.RecordType, detail)
	})
}
