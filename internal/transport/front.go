package transport

import (
	"net/http"
	"strings"
)

const allowedMethods = "GET, POST, OPTIONS"

// Front stands before a GraphQL endpoint, whichever transport serves it:
// methods other than GET and POST get 405, bodies other than JSON 415, and
// bodies over maxBody bytes 413. OPTIONS is answered without reaching next;
// cross-origin rules are a middleware's business.
func Front(next http.Handler, maxBody int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
		case http.MethodPost:
			encoding := r.Header.Get("Content-Encoding")
			if !sendsJSON(r) || encoding != "" && !strings.EqualFold(encoding, "identity") {
				w.Header().Set("Accept", mediaJSON)
				reject(w, http.StatusUnsupportedMediaType, codeBadUserInput,
					"The body must be "+mediaJSON+" in UTF-8, not compressed.")
				return
			}
			if r.ContentLength > maxBody {
				w.Header().Set("Connection", "close") // rather than reading all of it
				reject(w, faultTooLarge.status, faultTooLarge.code, faultTooLarge.message)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		case http.MethodOptions:
			w.Header().Set("Allow", allowedMethods)
			w.WriteHeader(http.StatusNoContent)
			return
		default:
			w.Header().Set("Allow", allowedMethods)
			reject(w, http.StatusMethodNotAllowed, codeBadUserInput, "GraphQL is served by GET and POST.")
			return
		}
		next.ServeHTTP(w, r)
	})
}
