package attachment

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// download answers the bytes of an attachment, whole or in parts.
func (h *handler) download(w http.ResponseWriter, r *http.Request) error {
	id, err := gid.Parse(r.PathValue("id"))
	if err != nil || id.Type() != gid.Attachment {
		return record.Refuse(lifecycle.NotFound, "there is no such record", "id")
	}
	a, err := h.Records.Attachment(r.Context(), id)
	if err != nil {
		return err
	}
	content, err := h.Records.Bytes(r.Context(), a)
	if err != nil {
		return err
	}
	defer content.Close()
	name := a.Filename
	if hidesName(r.Context(), a) {
		name = a.ID.String()
	}
	header := w.Header()
	header.Set("Content-Type", mediaType(a))
	// A file that somebody sent is never shown as a page of this site.
	header.Set("Content-Disposition", disposition(name))
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "private, no-store")
	header.Set("ETag", `"`+*a.Sha256+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// mediaType is the attachment's, if it can stand in a header.
func mediaType(a *ent.Attachment) string {
	kind, parameters, err := mime.ParseMediaType(a.MediaType)
	if err == nil && strings.Contains(kind, "/") {
		if text := mime.FormatMediaType(kind, parameters); text != "" {
			return text
		}
	}
	return "application/octet-stream"
}

// disposition is the header of RFC 6266 for a file that is to be saved: the name
// in its two forms, for clients that know only the first.
func disposition(name string) string {
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\%/`, c) {
			return '_'
		}
		return c
	}, name)
	// What QueryEscape leaves alone, attr-char of RFC 8187 allows; but it writes a
	// space as a plus sign.
	return `attachment; filename="` + plain + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}
