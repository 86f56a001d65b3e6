package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// metrics are what a server says of itself.
func metrics(p place, address string) string {
	p.Helper()
	res, err := http.Get(address + "/metrics")
	require.NoError(p, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(p, err)
	return string(body)
}

func TestAServerCountsWhatItDoes(t *testing.T) {
	each(t, func(p place) {
		address, said, _ := p.serve("--migrate", "--log-level", "debug")
		token := p.does("token", "create", "--tenant", "default", "--user", "admin@localhost")
		_, body := ask(p.T, http.DefaultClient, address, token, `mutation { createCustomer(input: {name: "X"}) { customer { id } } }`)
		id := regexp.MustCompile(`customer_\w{26}`).FindString(body)
		_, body = ask(p.T, http.DefaultClient, address, token, `mutation { deleteRecords(input: {select: {ids: ["`+id+`"]}}) { operation { status } } }`)
		require.Contains(p, body, "SUCCEEDED")
		ask(p.T, http.DefaultClient, address, token, `{ nosuch }`)
		for _, line := range []string{
			`lethe_http_requests_total{method="POST",route="/graphql",status="2xx"} 2`,
			`lethe_graphql_operations_total{code="OK",type="mutation"} 2`,
			`lethe_graphql_operations_total{code="GRAPHQL_VALIDATION_FAILED",type="none"} 1`,
			`lethe_operations_ended_total{status="SUCCEEDED",verb="DELETE"} 1`,
			`lethe_records_changed_total{type="Customer",verb="DELETE"} 1`,
			`lethe_jobs_queue_depth{kind="operation",state="waiting"} 0`,
			`lethe_webhooks_deliveries_pending 0`,
		} {
			require.Contains(p, metrics(p, address), line+"\n")
		}
		require.Eventually(p, func() bool {
			return regexp.MustCompile(`lethe_jobs_ended_total\{kind="sweep",result="done"\} [1-9]`).MatchString(metrics(p, address))
		}, 30*time.Second, 50*time.Millisecond)
		for line := range strings.Lines(said.String()) {
			if strings.Contains(line, "msg=request ") {
				require.Regexp(p, ` requestID=\S+`, line)
				require.NotContains(p, line, "traceID", "nobody asked for traces")
			}
		}

		// What the dashboard shows is there from the start, or with the first of its kind.
		dashboard, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "lethe.json"))
		require.NoError(p, err)
		shown := metrics(p, address)
		for _, name := range regexp.MustCompile(`\b(?:lethe|go|process)_[a-z_]+\b`).FindAllString(string(dashboard), -1) {
			if name == "lethe_authz_failures_total" { // which members and ways there are, nobody knows before
				continue
			}
			require.Regexp(p, `(?m)^`+name+`[{ ]`, shown)
		}
	})
}
