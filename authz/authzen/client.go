package authzen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// maxAnswer is how much of an answer is read, in bytes: some 4 kB for each evaluation of a large batch.
const maxAnswer = 4 << 20

// client speaks HTTP with one decision point.
type client struct {
	http     *http.Client
	base     *url.URL
	headers  http.Header
	discover bool

	mu    sync.Mutex
	found *endpoints // by discovery
}

// endpoints are where questions go. Without many there is only one at a time.
type endpoints struct{ one, many string }

func newClient(c Config, token string) (*client, error) {
	base, err := url.Parse(strings.TrimSuffix(c.URL, "/"))
	if err != nil {
		return nil, errors.New("url is none")
	}
	headers := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	for name, value := range c.Headers {
		headers.Set(name, value)
	}
	if token != "" {
		headers.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           parallel,
		MaxIdleConnsPerHost:    parallel, // as many as are used at a time, or they would be opened anew each time
		MaxConnsPerHost:        0,
		IdleConnTimeout:        idle,
		TLSHandshakeTimeout:    handshake,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &client{
		http: &http.Client{
			Transport: transport,
			// A decision is what the configured place says. A redirect would let whoever answers once choose who
			// answers, and send the token there.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: base, headers: headers, discover: c.Discover,
	}, nil
}

// endpoints are the default ones, or those of the metadata, which are read once they are needed.
func (c *client) endpoints(ctx context.Context) (endpoints, error) {
	if !c.discover {
		at := c.base.JoinPath("access", "v1")
		return endpoints{at.JoinPath("evaluation").String(), at.JoinPath("evaluations").String()}, nil
	}
	c.mu.Lock()
	found := c.found
	c.mu.Unlock()
	if found != nil {
		return *found, nil
	}
	// Those who come at the same time all read it: one that hangs must not hold up the others beyond their own
	// deadlines.
	e, err := c.readMetadata(ctx)
	if err != nil {
		return endpoints{}, fmt.Errorf("reading the metadata: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = &e
	return e, nil
}

func (c *client) readMetadata(ctx context.Context) (endpoints, error) {
	at := *c.base
	at.Path, at.RawPath = "/.well-known/authzen-configuration"+c.base.Path, ""
	v, err := c.do(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return endpoints{}, err
	}
	object, _ := v.(map[string]any)
	pdp, _ := object["policy_decision_point"].(string)
	if strings.TrimSuffix(pdp, "/") != c.base.String() { // else one could pass itself off as another
		return endpoints{}, fmt.Errorf("policy_decision_point is %q, not %q", pdp, c.base)
	}
	var e endpoints
	for name, to := range map[string]*string{"access_evaluation_endpoint": &e.one, "access_evaluations_endpoint": &e.many} {
		text, given := object[name]
		if !given {
			continue
		}
		*to, _ = text.(string)
		u, err := url.Parse(*to)
		if err != nil || u.Scheme != c.base.Scheme || u.Host != c.base.Host || u.User != nil {
			return endpoints{}, fmt.Errorf("%s is not on %s://%s, where the token may go", name, c.base.Scheme, c.base.Host)
		}
	}
	if e.one == "" {
		return endpoints{}, errors.New("there is no access_evaluation_endpoint")
	}
	return e, nil
}

func (c *client) post(ctx context.Context, to string, question any) (any, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("encoding the question: %w", err)
	}
	return c.do(ctx, http.MethodPost, to, body)
}

// do answers with the JSON of a response that is as it should be in every respect.
func (c *client) do(ctx context.Context, method, to string, body []byte) (any, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	r.Header = c.headers.Clone()
	res, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be used again
		return nil, fmt.Errorf("the answer is %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, fmt.Errorf("the answer is %q, not application/json", res.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	v, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the answer is %w", err)
	}
	return v, nil
}
