package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
)

// handler answers the requests of the benchmark in the form Lethe answers them.
type handler struct {
	db   database
	keys *audit.Keys
	// policies are the versions of the tenants' policies, which events name.
	policies map[ref]int
}

// caller is who is asking.
type caller struct {
	token, tenant, user ref
	teams               []ref
	used                time.Time
	request             string
}

// problem is a refusal.
type problem struct{ code, message string }

func (p *problem) Error() string { return p.code + ": " + p.message }

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.db.run(r.Context(), step{sql: "SELECT 1"}); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /customers", h.serve(h.customers))
	mux.HandleFunc("GET /messages", h.serve(h.messages))
	mux.HandleFunc("POST /delete", h.serve(h.remove))
	mux.HandleFunc("POST /restore", h.serve(h.restore))
	mux.HandleFunc("POST /purge", h.serve(h.purge))
	return mux
}

// serve authenticates the caller, answers, and encodes.
func (h *handler) serve(answer func(context.Context, *caller, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		var data any
		c, err := h.authenticate(r.Context(), secret)
		if err == nil {
			c.request = rand.Text()
			data, err = answer(r.Context(), c, r)
		}
		body := map[string]any{"data": data}
		if err != nil {
			code := "INTERNAL"
			if p, ok := errors.AsType[*problem](err); ok {
				code = p.code
			}
			body = map[string]any{"errors": []any{map[string]any{"message": err.Error(), "extensions": map[string]any{"code": code}}}, "data": nil}
		}
		text, err := json.Marshal(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text) // the client may have gone
	}
}

// selection says which records a verb is about: these, or the messages of a
// thread, of which there must be so many.
type selection struct {
	IDs           []gid.ID `json:"ids,omitempty"`
	ThreadKey     string   `json:"threadKey,omitempty"`
	ExpectedCount int      `json:"expectedCount,omitempty"`
	Reason        string   `json:"reason,omitempty"`
}

func readSelection(r *http.Request) (s selection, raw []byte, err error) {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&s); err != nil {
		return s, nil, &problem{"BAD_USER_INPUT", err.Error()}
	}
	if (len(s.IDs) == 0) == (s.ThreadKey == "") || len(s.IDs) > maxRows {
		return s, nil, &problem{"BAD_USER_INPUT", "select"}
	}
	raw, err = json.Marshal(map[string]any{"select": s})
	return s, raw, err
}

func (h *handler) remove(ctx context.Context, c *caller, r *http.Request) (any, error) {
	s, raw, err := readSelection(r)
	if err != nil {
		return nil, err
	}
	op := newOperation(h, c, "DELETE", s, raw)
	if err := op.retire(ctx); err != nil {
		return nil, fmt.Errorf("deleting: %w", err)
	}
	return map[string]any{"deleteRecords": op.payload()}, nil
}

func (h *handler) restore(ctx context.Context, c *caller, r *http.Request) (any, error) {
	s, raw, err := readSelection(r)
	if err != nil {
		return nil, err
	}
	if s.ThreadKey != "" {
		return nil, &problem{"BAD_USER_INPUT", "restore takes ids"}
	}
	op := newOperation(h, c, "RESTORE", s, raw)
	if err := op.restore(ctx); err != nil {
		return nil, fmt.Errorf("restoring: %w", err)
	}
	return map[string]any{"restoreRecords": op.payload()}, nil
}

func (h *handler) purge(ctx context.Context, c *caller, r *http.Request) (any, error) {
	s, raw, err := readSelection(r)
	if err != nil {
		return nil, err
	}
	if s.ThreadKey != "" {
		return nil, &problem{"BAD_USER_INPUT", "purge takes ids"}
	}
	op := newOperation(h, c, "PURGE", s, raw)
	if err := op.purge(ctx); err != nil {
		return nil, fmt.Errorf("purging: %w", err)
	}
	return map[string]any{"purgeRecords": op.payload()}, nil
}
