package mail_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/lethe-crm/lethe/internal/mail"
)

var importTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// differences are the mails of testdata/eml that we read otherwise than
// mail-parser, by field, with the reason. The test fails for any other
// difference and for one listed here that is gone.
var differences = map[string]string{
	"malformed/005 text":  `the line "--a----" opens part "a----" for mail-parser; it closes "a--" for us, so no part is left and all of the mail is the text`,
	"malformed/020 text":  "a boundary is missing between two Content-Type fields: mail-parser keeps the HTML part with its header inside of the plain text, we put the boundary back",
	"malformed/021 text":  "as malformed/020",
	"thirdparty/002 text": `mail-parser decodes the word "ignored" behind the padding of base64 into three garbage characters, we leave it out`,
}

func TestMailsOfTheCorpusReadAsAnotherParserReadsThem(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/eml/*/*.eml")
	require.NoError(t, err)
	require.Len(t, paths, 53)
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/eml/"), ".eml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			message, err := mail.Parse(raw, mail.Times{Import: importTime})
			require.NoError(t, err)
			requireReadable(t, message)

			want := readExpected(t, strings.TrimSuffix(path, ".eml")+".json")
			for field, different := range want.compare(message) {
				key := name + " " + field
				reason, listed := differences[key]
				if listed {
					require.NotEmpty(t, different, "%s no longer differs (%s)", key, reason)
					continue
				}
				require.Empty(t, different, key)
			}
		})
	}
}

// expected is what the JSON beside a mail says.
type expected struct {
	TextBody []int `json:"text_body"`
	Parts    []struct {
		Headers []struct{ Name, Value json.RawMessage }
		Body    json.RawMessage
	}
}

func readExpected(t *testing.T, path string) expected {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var want expected
	require.NoError(t, json.Unmarshal(b, &want))
	return want
}

// compare returns for each field how the message differs, "" if it does not.
func (want expected) compare(got mail.Message) map[string]string {
	result := map[string]string{}
	check := func(field, got string, wanted []string) {
		result[field] = ""
		if slices.Contains(wanted, got) {
			return
		}
		if len(wanted) > 0 || got != "" {
			result[field] = fmt.Sprintf("got %q, want one of %q", got, wanted)
		}
	}
	fields := map[string][]string{}
	for _, header := range want.Parts[0].Headers {
		var name string
		if json.Unmarshal(header.Name, &name) != nil {
			continue // a field mail-parser has no name for
		}
		if text, ok := headerText(name, header.Value); ok {
			fields[name] = append(fields[name], text)
		}
	}
	check("subject", got.Subject, fields["subject"])
	sender := ""
	if got.Sender != nil {
		sender = mailbox(got.Sender.Name, got.Sender.Address)
	}
	check("from", sender, fields["from"])
	for _, kind := range []string{mail.To, mail.CC} {
		var mailboxes []string
		for _, recipient := range got.Recipients {
			if recipient.Kind == kind {
				mailboxes = append(mailboxes, mailbox(recipient.Name, recipient.Address.Address))
			}
		}
		check(strings.ToLower(kind), strings.Join(mailboxes, ", "), fields[strings.ToLower(kind)])
	}
	date := ""
	if got.SentAtSource == mail.FromDate {
		date = got.SentAt.Format(time.RFC3339)
	}
	check("date", date, fields["date"])
	id := got.MessageID
	if strings.HasPrefix(id, "sha256:") {
		id = ""
	}
	check("message_id", id, fields["message_id"])

	// Every text mail-parser shows is in the body, in the same order.
	result["text"] = ""
	rest := normal(got.Body)
	for _, index := range want.TextBody {
		text := normal(partText(want.Parts[index].Body))
		before, after, found := strings.Cut(rest, text)
		if !found || index == want.TextBody[0] && strings.TrimSpace(before) != "" {
			result["text"] = fmt.Sprintf("got %q, want part %d: %q", normal(got.Body), index, text)
			break
		}
		rest = after
	}
	return result
}

func headerText(name string, value json.RawMessage) (string, bool) {
	type mailboxes []struct{ Name, Address string }
	var v struct {
		Text    string
		Address struct {
			List  mailboxes
			Group []struct{ Addresses mailboxes }
		}
		DateTime *struct {
			Year, Month, Day, Hour, Minute, Second int
			Before                                 bool `json:"tz_before_gmt"`
			ZoneHour                               int  `json:"tz_hour"`
			ZoneMinute                             int  `json:"tz_minute"`
		}
	}
	if json.Unmarshal(value, &v) != nil {
		return "", false // "Empty"
	}
	switch name {
	case "from", "to", "cc":
		all := v.Address.List
		for _, group := range v.Address.Group {
			all = append(all, group.Addresses...)
		}
		var texts []string
		for _, one := range all {
			texts = append(texts, mailbox(one.Name, one.Address))
		}
		return strings.Join(texts, ", "), true
	case "date":
		d := v.DateTime
		if d == nil {
			return "", false
		}
		zone := d.ZoneHour*3600 + d.ZoneMinute*60
		if d.Before {
			zone = -zone
		}
		at := time.Date(d.Year, time.Month(d.Month), d.Day, d.Hour, d.Minute, d.Second, 0, time.FixedZone("", zone))
		return at.UTC().Format(time.RFC3339), true
	}
	return v.Text, true
}

func mailbox(name, address string) string { return name + " <" + address + ">" }

// partText is the text of a part as the JSON has it, HTML without its tags.
func partText(body json.RawMessage) string {
	var v struct {
		Text string
		HTML string `json:"Html"`
	}
	if json.Unmarshal(body, &v) != nil || v.HTML == "" {
		return v.Text
	}
	var out strings.Builder
	for tokens := html.NewTokenizer(strings.NewReader(v.HTML)); tokens.Next() != html.ErrorToken; {
		if token := tokens.Token(); token.Type == html.TextToken {
			out.WriteString(token.Data + " ")
		}
	}
	return out.String()
}

// normal makes white space alike and leaves out NUL, which we never keep.
func normal(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\x00", "")), " ")
}
