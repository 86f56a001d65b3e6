package gid_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/internal/gid"
)

func TestIDsIncreaseWhileTheClockStandsStill(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := at
	g := gid.NewGenerator(func() time.Time { return now }, bytes.NewReader(make([]byte, 8*10_000)))
	var ids []string
	for i := range 9_000 {
		if i == 5_000 {
			now = at.Add(-time.Hour) // a clock that steps back
		}
		ids = append(ids, g.New(gid.Message).UUID())
	}
	require.True(t, slices.IsSorted(ids))
	require.Len(t, slices.Compact(ids), 9_000)
}

func TestTextFormsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var id gid.ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
		id[15] = byte(rapid.SampledFrom([]gid.Type{gid.Customer, gid.Operation, gid.Event}).Draw(t, "type"))
		shown, err := gid.Parse(id.String())
		if err != nil || shown != id {
			t.Fatalf("%s read back as %v, %v", id, shown, err)
		}
		kept, err := gid.ParseUUID(id.UUID())
		if err != nil || kept != id {
			t.Fatalf("%s read back as %v, %v", id.UUID(), kept, err)
		}
	})
}

func TestAnIDCannotBePassedOffAsAnotherType(t *testing.T) {
	t.Parallel()
	id := gid.New(gid.Customer).String()
	_, err := gid.Parse("contact_" + id[len("customer_"):])
	require.ErrorIs(t, err, gid.ErrMalformed)
}

func TestIDsAreTypedAndDated(t *testing.T) {
	t.Parallel()
	id := gid.New(gid.Deal)
	require.Equal(t, gid.Deal, id.Type())
	require.WithinDuration(t, time.Now(), id.Time(), time.Minute)
}

func FuzzParse(f *testing.F) {
	f.Add("customer_06h0e6jgv9w3q9gq91y7t1wa04")
	f.Add("customer_")
	f.Add("_")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := gid.Parse(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q is read as an id but shown as %q", s, id)
		}
	})
}

func TestADerivedIDIsThatOfItsText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 9, 0, 0, 123e6, time.UTC)
	id := gid.Derive(gid.Token, at, "one")
	require.Equal(t, id, gid.Derive(gid.Token, at, "one"))
	require.NotEqual(t, id, gid.Derive(gid.Token, at, "two"))
	require.Equal(t, gid.Token, id.Type())
	require.Equal(t, at, id.Time())
	require.Equal(t, "7", id.UUID()[14:15], "it is a UUIDv7 as any other")
	require.Contains(t, "89ab", id.UUID()[19:20])
	parsed, err := gid.Parse(id.String())
	require.NoError(t, err)
	require.Equal(t, id, parsed)
	require.Equal(t, time.Unix(0, 0).UTC(), gid.Derive(gid.Token, time.Time{}, "one").Time(), "of no time it is of the first")
}
