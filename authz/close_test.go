package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
)

// held counts how often it is closed.
type held struct {
	decideFunc
	closed atomic.Int32
	err    error
}

func (h *held) Close() error {
	h.closed.Add(1)
	if h.err != nil && h.err.Error() == "panic" {
		panic(h.err)
	}
	return h.err
}

func TestClosingClosesEveryPluginOnce(t *testing.T) {
	t.Parallel()
	plugins := []*held{{err: errors.New("cannot")}, {err: errors.New("panic")}, {}}
	members := []authz.Member{member("open", authz.Grant, permits)}
	for i, p := range plugins {
		members = append(members, member(string(rune('a'+i)), authz.Veto, p))
	}
	chain, err := authz.NewChain(nil, members...)
	require.NoError(t, err)
	for range 2 {
		err = chain.Close()
		require.ErrorContains(t, err, `close "a": cannot`)
		require.ErrorContains(t, err, `close "b": panic`)
	}
	for _, p := range plugins {
		require.EqualValues(t, 1, p.closed.Load())
	}
}

func TestARetiredChainIsClosedWhenNobodyCanAskItAnyMore(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	p := &held{decideFunc: func(context.Context, []authz.Request) ([]authz.Decision, error) {
		close(entered)
		<-leave // a call that is left behind
		return nil, nil
	}}
	closed := make(chan error, 1)
	ctx := func() context.Context {
		chain, err := authz.NewChain(nil, authz.Member{Name: "a", Role: authz.Grant, Plugin: p, Timeout: time.Millisecond})
		require.NoError(t, err)
		chain.Decide(t.Context(), make([]authz.Request, 1))
		ctx, err := chain.Pin(t.Context(), "t1")
		require.NoError(t, err)
		chain.Retire(func(err error) { closed <- err })
		return ctx
	}()
	<-entered
	stays := func(why string) {
		t.Helper()
		for range 5 {
			runtime.GC()
			time.Sleep(2 * time.Millisecond) // for a clean-up that should not be
		}
		require.Zero(t, p.closed.Load(), why)
	}
	stays("an operation has it pinned")
	runtime.KeepAlive(ctx)
	ctx = nil //nolint:ineffassign,wastedassign // the operation is over
	stays("a call is under way")
	close(leave)
	require.Eventually(t, func() bool { runtime.GC(); return p.closed.Load() == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, <-closed)
}

func TestAProgramThatEndsClosesRetiredChainsAtOnce(t *testing.T) {
	t.Parallel()
	p := &held{decideFunc: decideFunc(nil)}
	chain, err := authz.NewChain(nil, member("a", authz.Grant, p))
	require.NoError(t, err)
	now := chain.Retire(func(error) {})
	require.NoError(t, now())
	require.NoError(t, chain.Close())
	require.EqualValues(t, 1, p.closed.Load())
}

func TestAChainThatCannotBeBuiltLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	p := &held{decideFunc: decideFunc(nil)}
	own := map[string]authz.Factory{
		"held":   func(context.Context, string, json.RawMessage) (authz.Plugin, error) { return p, nil },
		"panics": func(context.Context, string, json.RawMessage) (authz.Plugin, error) { panic("in the factory") },
	}
	closed := int32(0)
	for _, bad := range []struct {
		second authz.Config
		built  int32
	}{
		{authz.Config{Name: "b", Kind: "panics"}, 1},
		{authz.Config{Name: "b", Kind: "held", Timeout: "0s"}, 1},
		{authz.Config{Name: "a", Kind: "held"}, 2}, // both have the name
	} {
		_, err := authz.BuildChain(t.Context(), []authz.Config{{Name: "a", Kind: "held", Role: authz.Grant}, bad.second}, own, nil)
		require.Error(t, err)
		closed += bad.built
		require.Equal(t, closed, p.closed.Load())
	}
}

func TestAFactoryThatHangsIsNotWaitedForLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &held{decideFunc: decideFunc(nil)}
		own := map[string]authz.Factory{"slow": func(context.Context, string, json.RawMessage) (authz.Plugin, error) {
			time.Sleep(time.Hour) // whatever its context says
			return p, nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := authz.BuildChain(ctx, []authz.Config{{Name: "a", Kind: "slow", Role: authz.Grant}}, own, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.EqualValues(t, 1, p.closed.Load(), "it comes too late, and is closed")
	})
}
