// Package attachment takes the files of attachments over HTTP, and hands them out.
//
// Files are not sent through GraphQL: a multipart request there is one that a form
// of any other site can send. Here a file goes through memory a piece at a time,
// in both directions; whose it is and who may read it internal/record says.
package attachment

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/rest"
	"github.com/lethe-crm/lethe/internal/visible"
)

// DefaultMaxUpload is the size of the largest file that is taken, in bytes, where
// the operator does not say otherwise.
const DefaultMaxUpload = 25 << 20

// Config is what the endpoint is made of.
type Config struct {
	Control *access.Control
	Records *record.Service
	Log     *slog.Logger
	Now     func() time.Time
	// MaxUpload is the size of the largest file that is taken, in bytes; zero is
	// DefaultMaxUpload.
	MaxUpload int64
	// RequestID names the request of a context to callers who are not signed in.
	RequestID func(context.Context) string
}

type handler struct {
	Config

	rest rest.Endpoint
}

// NewHandler serves POST /attachments and GET /attachments/{id}. The actor is
// expected in the context of each request (actor.With).
func NewHandler(c Config) http.Handler {
	if c.MaxUpload == 0 {
		c.MaxUpload = DefaultMaxUpload
	}
	h := &handler{c, rest.Endpoint{Control: c.Control, Log: c.Log, RequestID: c.RequestID}}
	mux := http.NewServeMux()
	mux.Handle("POST /attachments", h.rest.Seeing(h.upload))
	mux.Handle("GET /attachments/{id}", h.rest.Seeing(h.download))
	return mux
}

// hidesName reports whether the file's name is hidden from the reader.
func hidesName(ctx context.Context, a *ent.Attachment) bool {
	mask := visible.MaskOf(ctx, ent.TypeAttachment)
	return mask != nil && mask.Hidden(a.Column)["filename"]
}
