package transport

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	mediaJSON        = "application/json"
	mediaResponse    = "application/graphql-response+json"
	mediaEventStream = "text/event-stream"
)

// offer is the media type served for each range a client may accept. A
// wildcard gets plain JSON, as clients that send none expect.
var offer = map[string]string{
	mediaJSON:        mediaJSON,
	mediaResponse:    mediaResponse,
	mediaEventStream: mediaEventStream,
	"application/*":  mediaJSON,
	"*/*":            mediaJSON,
}

// negotiate picks the media type of the answer: the highest quality, and of
// equals the one listed first. It is empty when nothing offered is acceptable.
func negotiate(r *http.Request) string {
	accept := r.Header.Values("Accept")
	if strings.TrimSpace(strings.Join(accept, "")) == "" {
		return mediaJSON
	}
	best, bestQuality := "", 0.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, ok := parameters["q"]; ok {
			if quality, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		if served, ok := offer[mediaType]; ok && quality > bestQuality {
			best, bestQuality = served, quality
		}
	}
	return best
}

// WantsEventStream reports whether the client prefers server-sent events to a
// JSON answer. Clients such as urql list event streams last with every request
// and are content with JSON.
func WantsEventStream(r *http.Request) bool { return negotiate(r) == mediaEventStream }

// sendsJSON reports whether the body is declared as JSON in UTF-8. Browsers
// send that type across origins only after a preflight, which is what keeps
// forged requests out.
func sendsJSON(r *http.Request) bool {
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != mediaJSON {
		return false
	}
	charset, declared := parameters["charset"]
	return !declared || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}
