package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecordsAreFoundAgainAfterErrors(t *testing.T) {
	t.Parallel()
	a, calls := &app{log: slog.New(slog.DiscardHandler)}, 0
	a.reindex(t.Context(), func(context.Context) (int, error) {
		if calls++; calls < 4 {
			return 1, errors.New("the disk is full")
		}
		return 1, nil
	}, 1)
	require.Equal(t, 4, calls)
	ctx, stop := context.WithCancel(t.Context())
	a.reindex(ctx, func(context.Context) (int, error) {
		stop()
		calls++
		return 0, ctx.Err()
	}, reindexLatest)
	require.Equal(t, 5, calls, "a server that stops does not wait")
}
