package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/server"
)

func TestCallsOfMembersAreMeasured(t *testing.T) {
	t.Parallel()
	m := server.NewMetrics()
	decided := authz.Call{Member: "policy", Method: authz.MethodDecide, Requests: 7, Duration: 2 * time.Millisecond}
	decided.Effects = [4]int{authz.Permit: 4, authz.Deny: 3}
	m.Call(t.Context(), decided)
	m.Call(t.Context(), authz.Call{Member: "remote", Method: authz.MethodPlan, Requests: 1, Duration: 2 * time.Second, Failure: authz.FailureTimeout})
	m.PolicyLoaded(nil, nil)
	m.PolicyLoaded([]casbin.Finding{{Severity: casbin.Error}}, nil)
	m.PolicyLoaded(nil, errors.New("no"))
	m.PolicyLoaded(nil, errors.New("no"))
	m.ChainReloaded(nil)
	body := get(m, http.MethodGet, "/metrics").Body.String()
	for _, line := range []string{
		`lethe_authz_call_duration_seconds_bucket{member="policy",method="decide",le="0.001"} 0`,
		`lethe_authz_call_duration_seconds_bucket{member="policy",method="decide",le="0.005"} 1`,
		`lethe_authz_call_duration_seconds_sum{member="remote",method="plan"} 2`,
		`lethe_authz_decisions_total{effect="permit",member="policy"} 4`,
		`lethe_authz_decisions_total{effect="deny",member="policy"} 3`,
		`lethe_authz_failures_total{failure="timeout",member="remote",method="plan"} 1`,
		`lethe_authz_policy_loads_total{result="loaded"} 1`,
		`lethe_authz_policy_loads_total{result="invalid"} 1`,
		`lethe_authz_policy_loads_total{result="failed"} 2`,
		`lethe_authz_chain_reloads_total{result="replaced"} 1`,
		`lethe_authz_chain_reloads_total{result="refused"} 0`,
	} {
		require.Contains(t, body, line+"\n")
	}
	require.NotContains(t, body, `failures_total{failure="",`)
	require.NotContains(t, body, `effect="not_applicable"`)
	require.Contains(t, body, "go_goroutines")
}

func TestMetricsAreBesideTheAPIOrOnAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	m := server.NewMetrics()
	beside := server.New(server.Config{Metrics: m, Log: slog.New(slog.DiscardHandler)})
	require.Equal(t, http.StatusOK, get(beside, http.MethodGet, "/metrics").Code)
	require.Equal(t, http.StatusNotFound, get(server.New(server.Config{Log: slog.New(slog.DiscardHandler)}), http.MethodGet, "/metrics").Code)

	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx, listener) }()
	for path, status := range map[string]int{"/metrics": http.StatusOK, "/graphql": http.StatusNotFound, "/": http.StatusNotFound} {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, path)
		require.Equal(t, status == http.StatusOK, bytes.Contains(body, []byte("lethe_authz_")))
	}
	stop()
	require.NoError(t, <-ended)
}
