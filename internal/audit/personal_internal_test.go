package audit

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/internal/gid"
)

type enum string

func TestPersonalValuesAreEncodedAsTheStandardLibraryDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.SampledFrom([]string{"", "<a href=\"b\">&amp;\\</a>", "\u2028\u2029\u202a", "a\x80b\xffc\xe2\x80", "\x00\b\f\n\r\t\x1f\x7f", "Анна 安娜 👩‍👩‍👧"}))
		value := rapid.OneOf(
			rapid.Map(text, func(s string) any { return s }), rapid.Map(text, func(s string) any { return enum(s) }),
			rapid.Map(rapid.Int(), func(n int) any { return n }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
			rapid.Map(rapid.Float64(), func(f float64) any { return f }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.Int64Range(-60_000_000_000, 250_000_000_000), func(n int64) any { return time.Unix(n, n%1_000_000_000).UTC() }),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return b }),
			rapid.Map(rapid.Bool(), func(b bool) any {
				if b {
					return gid.Nil
				}
				return gid.New(gid.Customer)
			}),
			rapid.Map(text, func(s string) any { return []map[string]any{{"kind": "TO", "address": s}} }),
			rapid.Just[any](nil),
		)
		var p Personal
		if rapid.Bool().Draw(t, "because") {
			p.Reason = text.Draw(t, "reason")
		}
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			p.Changes = append(p.Changes, Change{Field: text.Draw(t, "field"), Old: value.Draw(t, "old"), New: value.Draw(t, "new")})
		}
		want, wantErr := json.Marshal(p)
		got, err := p.append(nil)
		require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
		if err == nil {
			require.Equal(t, string(want), string(got))
		}
	})
}
