// Package graphiql serves GraphiQL, the GraphQL IDE, from the binary: no CDN,
// no inline script, nothing loaded from elsewhere.
//
// The assets are unchanged files of the npm packages graphiql 3.9.0
// (graphiql.min.js, graphiql.min.css), react 18.3.1 and react-dom 18.3.1 (their
// UMD production builds); assets/LICENSES.txt has their licences and those of
// what is bundled into them. boot.js and boot.css are ours.
package graphiql

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed assets
var embedded embed.FS

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// contentSecurityPolicy allows what GraphiQL needs and no more: styles set by
// its libraries at run time, fonts and images within its style sheet, and
// requests to this origin.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"font-src data:; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is a response that never changes while the process runs.
type file struct {
	content           []byte
	mediaType, digest string
}

// mediaTypes are fixed, because the mime package asks the machine.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".txt":  "text/plain; charset=utf-8",
}

func newFile(name string, content []byte) file {
	digest := sha256.Sum256(content)
	return file{
		content:   content,
		mediaType: mediaTypes[path.Ext(name)],
		digest:    base64.RawURLEncoding.EncodeToString(digest[:12]),
	}
}

// Handler serves GraphiQL for the GraphQL endpoint at the given path of the
// same origin. It is mounted below a path that ends with a slash:
//
//	http.Handle("/graphiql/", http.StripPrefix("/graphiql", graphiql.Handler("/graphql")))
func Handler(endpoint string) http.Handler {
	entries, err := fs.ReadDir(embedded, "assets")
	if err != nil {
		panic(fmt.Errorf("reading the embedded assets: %w", err)) // a broken build
	}
	assets := map[string]file{}
	digests := map[string]string{}
	for _, entry := range entries {
		content, err := embedded.ReadFile("assets/" + entry.Name())
		if err != nil {
			panic(fmt.Errorf("reading an embedded asset: %w", err))
		}
		asset := newFile(entry.Name(), content)
		assets[entry.Name()] = asset
		digests[entry.Name()] = asset.digest
	}
	var html bytes.Buffer
	if err := page.Execute(&html, struct {
		Endpoint string
		Digests  map[string]string
	}{endpoint, digests}); err != nil {
		panic(fmt.Errorf("rendering the page: %w", err))
	}
	index := newFile("index.html", html.Bytes())

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		index.serve(w, r)
	})
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		asset, ok := assets[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		// The page asks for each asset by its digest, so such an address never
		// means another content.
		if r.URL.Query().Get("v") == asset.digest {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			w.Header().Set("Cache-Control", "no-cache")
		}
		asset.serve(w, r)
	})
	return mux
}

// serve answers conditional requests too.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", f.mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("ETag", `"`+f.digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
