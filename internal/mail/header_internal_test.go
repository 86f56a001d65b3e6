package mail

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// headerCases are the header values of testdata/header with what mail-parser
// reads from them.
func headerCases[T any](t *testing.T, name string) []struct {
	Header   string
	Expected T
} {
	t.Helper()
	b, err := os.ReadFile("testdata/header/" + name + ".json")
	require.NoError(t, err)
	var cases []struct {
		Header   string
		Expected T
	}
	require.NoError(t, json.Unmarshal(b, &cases))
	require.NotEmpty(t, cases)
	return cases
}

// fieldValue is the value as splitHeader gives it.
func fieldValue(raw string) string {
	fields, _ := splitHeader([]byte("X: " + raw))
	if values := fields["X"]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func TestEncodedWordsReadAsAnotherParserReadsThem(t *testing.T) {
	t.Parallel()
	const glued = "mail-parser puts a space before an encoded word that has none"
	differences := map[string]string{
		"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb3JpZ2luYWwgc3ViamVjdA==?=\n":        glued,
		"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb\n 3JpZ2luYWwgc3ViamVjdA==?=\n":     glued,
		"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb\r\n 3JpZ2luYWwgc3ViamVjdA==?=\r\n": glued,
	}
	for _, c := range headerCases[string](t, "unstructured") {
		got, _ := decodeWords(fieldValue(c.Header), "")
		got = strings.Join(strings.Fields(got), " ")
		want := strings.Join(strings.Fields(c.Expected), " ")
		if reason, ok := differences[c.Header]; ok {
			require.NotEqual(t, want, got, reason)
			continue
		}
		require.Equal(t, want, got, "%q", c.Header)
	}
}

func TestDatesReadAsAnotherParserReadsThem(t *testing.T) {
	t.Parallel()
	type date struct {
		Year, Month, Day, Hour, Minute, Second int
		Before                                 bool `json:"tz_before_gmt"`
		ZoneHour                               int  `json:"tz_hour"`
		ZoneMinute                             int  `json:"tz_minute"`
	}
	differences := map[string]string{
		" 4 8 15 16 23 42, 4 8 15 16 23 42, 4 8 15 16 23 42, ": "mail-parser reads any six numbers as a date",
	}
	for _, c := range headerCases[*date](t, "date") {
		got, ok := parseDate(fieldValue(c.Header))
		var want time.Time
		if d := c.Expected; d != nil {
			zone := d.ZoneHour*3600 + d.ZoneMinute*60
			if d.Before {
				zone = -zone
			}
			want = time.Date(d.Year, time.Month(d.Month), d.Day, d.Hour, d.Minute, d.Second, 0, time.FixedZone("", zone)).UTC()
		}
		if reason, listed := differences[c.Header]; listed {
			require.NotEqual(t, want, got, reason)
			continue
		}
		require.Equal(t, c.Expected != nil, ok, "%q gives %v", c.Header, got)
		require.Equal(t, want, got, "%q", c.Header)
	}
}

func TestMessageIDsReadAsAnotherParserReadsThem(t *testing.T) {
	t.Parallel()
	for _, c := range headerCases[[]string](t, "id") {
		want := ""
		if len(c.Expected) > 0 {
			want = c.Expected[0]
		}
		require.Equal(t, want, firstID(fieldValue(c.Header)), "%q", c.Header)
	}
}

func TestAddressesReadAsAnotherParserReadsThem(t *testing.T) {
	t.Parallel()
	type mailboxes []struct{ Name, Address string }
	type field struct {
		List  mailboxes
		Group []struct{ Addresses mailboxes }
	}
	const comment = "mail-parser adds comments to a name, we use them only where there is none"
	differences := map[string]string{
		"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\n":                               comment,
		"Pete(A nice \n \\\n ) chap) <pete(his\n account)@silly\n .test(his host)>\n":                    comment,
		"John Doe <jdoe@machine(comment).  example>\n":                                                   comment,
		"Nathaniel Borenstein <nsb@thumper.bellcore.com>\n    (=?iso-8859-8?b?7eXs+SDv4SDp7Oj08A==?=)\n": comment,
		"Name (comment) =?utf-8?q?Doe?= <a@b.com>\n":                                                     comment,
		"A Group(Some people)\n        :Chris Jones <c@(Chris's host.)public.example>,\n            joe@example.org,\n     John <jdoe@one.test> (my dear friend); (the end of the group)\n": comment,
		"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example\n": "we leave out the route of RFC 822, and do not join an address that is torn apart",
		"NO (posting not allowed on this list)\n":                            "a word without @ is a name for us",
	}
	for _, c := range headerCases[field](t, "address") {
		if strings.Contains(c.Header, "<mailto:") {
			continue // List- fields, which hold no addresses
		}
		var want []Address
		all := c.Expected.List
		for _, group := range c.Expected.Group {
			all = append(all, group.Addresses...)
		}
		for _, one := range all {
			want = append(want, Address{Address: one.Address, Name: strings.TrimSpace(one.Name)})
		}
		got := parseAddresses(fieldValue(c.Header), func(text string) string {
			decoded, _ := decodeWords(text, "")
			return decoded
		})
		if reason, listed := differences[c.Header]; listed {
			require.NotEqual(t, want, got, reason)
			continue
		}
		require.Equal(t, want, got, "%q", c.Header)
	}
}
