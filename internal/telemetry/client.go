package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// timeout is how long an export may take unless a variable says otherwise; the
	// specification has the same.
	timeout = 10 * time.Second
	// tries is how often an export is sent to a receiver that is too busy for it.
	tries = 3
	// maxAnswer is how much of an answer is read, so that the connection can be used again.
	maxAnswer = 64 << 10
)

// client sends spans as OTLP over HTTP, in protobuf. The client of OpenTelemetry would
// bring gRPC along, which is larger than all of the rest of it.
type client struct {
	url      string
	headers  http.Header
	compress bool
	timeout  time.Duration
	http     *http.Client
}

// newClient reads https://opentelemetry.io/docs/specs/otel/protocol/exporter/; nil is
// that nothing is to be sent.
func newClient(getenv func(string) string) (*client, error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(getenv("OTEL_TRACES_EXPORTER"), "none") {
		return nil, nil
	}
	// The variable for traces goes before the one for all signals.
	of := func(name string) string {
		if value := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_TRACES_" + name)); value != "" {
			return value
		}
		return strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_" + name))
	}
	address, err := endpoint(getenv)
	if address == "" || err != nil {
		return nil, err
	}
	if protocol := of("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q, and spans are sent by http/protobuf only", protocol) //nolint:err113 // for the operator
	}
	c := &client{url: address, headers: http.Header{}, timeout: timeout, http: &http.Client{}}
	if c.headers, err = readHeaders(of("HEADERS")); err != nil {
		return nil, err
	}
	switch compression := of("COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		c.compress = true
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q, neither gzip nor none", compression) //nolint:err113 // for the operator
	}
	if text := of("TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms < 1 {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q, and not a number of milliseconds", text) //nolint:err113 // for the operator
		}
		c.timeout = time.Duration(ms) * time.Millisecond
	}
	roots, err := readRoots(of("CERTIFICATE"))
	if err != nil {
		return nil, err
	}
	c.http.Transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: time.Minute,
	}
	return c, nil
}

// endpoint is where spans are sent to. The variable for traces names the place itself,
// the one for all signals what is before it.
func endpoint(getenv func(string) string) (string, error) {
	name, path := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""
	if getenv(name) == "" {
		name, path = "OTEL_EXPORTER_OTLP_ENDPOINT", "v1/traces"
	}
	text := strings.TrimSpace(getenv(name))
	if text == "" {
		return "", nil
	}
	at, err := url.Parse(text)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return "", fmt.Errorf("%s is no URL that begins with http:// or https://", name) //nolint:err113 // for the operator
	}
	if path != "" {
		at = at.JoinPath(path)
	}
	return at.String(), nil
}

// readHeaders reads name=value,name=value, with values in percent-encoding.
func readHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS is no list of name=value") // which may be a secret
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// readRoots reads whom to trust; nil is whom the system trusts.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE has no certificate in it: %s", path) //nolint:err113 // for the operator
	}
	return roots, nil
}

// Start implements otlptrace.Client.
func (*client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. TracesData is on the wire what a request to
// export is.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encoding spans: %w", err)
	}
	if c.compress {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(body); err != nil {
			return fmt.Errorf("compressing spans: %w", err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("compressing spans: %w", err)
		}
		body = b.Bytes()
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for try := 1; ; try++ {
		wait, err := c.post(ctx, body)
		if err == nil || wait == 0 || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait * time.Duration(try)):
		}
	}
}

// post sends spans once, and answers after how long to try again, if that may help.
func (c *client) post(ctx context.Context, body []byte) (wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("sending spans: %w", err)
	}
	maps.Copy(r.Header, c.headers)
	r.Header.Set("Content-Type", "application/x-protobuf")
	if c.compress {
		r.Header.Set("Content-Encoding", "gzip")
	}
	got, err := c.http.Do(r)
	if err != nil {
		return time.Second, fmt.Errorf("sending spans: %w", err)
	}
	defer got.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(got.Body, maxAnswer))
	if got.StatusCode >= 200 && got.StatusCode < 300 {
		return 0, nil
	}
	err = fmt.Errorf("sending spans: the receiver answered %s", got.Status) //nolint:err113 // for the operator
	switch got.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		wait = time.Second
		if seconds, failed := strconv.Atoi(got.Header.Get("Retry-After")); failed == nil && seconds > 0 {
			wait = time.Duration(seconds) * time.Second
		}
	}
	return wait, err
}
