package mail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/mail"
)

// walk opens a path and returns its items.
func walk(t *testing.T, path string, options mail.Options) (*mail.Source, []mail.Item) {
	t.Helper()
	source, err := mail.Open(path, options)
	require.NoError(t, err)
	var items []mail.Item
	require.NoError(t, source.Walk(t.Context(), func(item mail.Item) error {
		items = append(items, item)
		return nil
	}))
	return source, items
}

// write makes a file below a new folder and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return folder
}

// maildirNames are the names in the source of testdata/maildir, which a Go
// module may not hold.
var maildirNames = map[string]string{
	"a": "cur/1491941793.M41850P8566V0000000000000015I0000000004F3030E_0.mx1.example.com,S=10956;2,STln",
	"b": "new/1234567890.M20046P2137.mailserver,S=4542,W=4642;2,Sb",
	"c": ".My Folder/cur/1035478339.27041_118.foo.org,S=1000,W=1030;2,TDR",
	"d": ".My Folder/new/1276528487.M364837P9451.kurkku,S=1355,W=1394;2,",
	"e": ".My Folder.Nested Folder/cur/1276533073.M242911P3632.kurkku;2,FP",
	"f": ".My Folder.Nested Folder/new/1035478339.27041_118.foo.org,S=1000,W=1030;2,RDF,",
}

func TestAMaildirGivesTheMailOfAllItsFolders(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"tmp/1.not-delivered": "x", "dovecot.index": "x", "cur/.hidden": "x", "subscriptions": "x",
	}
	for letter, name := range maildirNames {
		b, err := os.ReadFile("testdata/maildir/" + letter + ".txt")
		require.NoError(t, err)
		files[name] = string(b)
	}
	source, items := walk(t, write(t, files), mail.Options{})
	require.Equal(t, mail.Maildir, source.Format())
	require.Equal(t, 3, source.Ignored())
	require.EqualValues(t, 12, source.Total())
	require.Equal(t, source.Total(), source.Consumed())

	require.Len(t, items, len(maildirNames))
	names := map[string]mail.Item{}
	for _, item := range items {
		names[item.Name] = item
	}
	for letter, name := range maildirNames {
		message, err := names[name].Parse(importTime)
		require.NoError(t, err)
		require.Equal(t, letter, message.Body)
		require.Equal(t, mail.FromMaildirName, message.SentAtSource)
	}
	require.Equal(t, time.Date(2009, 2, 13, 23, 31, 30, 0, time.UTC), names[maildirNames["b"]].Times.MaildirName)
}

const mbox = "From alice@example.com Sat Jan  3 10:05:00 2026\n" +
	"Subject: one\n\nHello\n>From the start\n>>From twice\n\nFrom now on all is text\n\n" +
	"From bob@example.com  Sun Jan 04 11:00:00 2026 +0100\n" +
	"Subject: two\n\nno empty line before:\nFrom alice@example.com Sat Jan  3 10:05:00 2026\n\n" +
	"From - Mon Jan  5 12:00:00 2026\nSubject: three\n\nlast"

func TestAnMboxIsSplitAtItsFromLines(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"lf": mbox, "crlf": strings.ReplaceAll(mbox, "\n", "\r\n")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := write(t, map[string]string{"Inbox": text})
			source, items := walk(t, filepath.Join(folder, "Inbox"), mail.Options{})
			require.Equal(t, mail.Mbox, source.Format())
			require.EqualValues(t, len(text), source.Total())
			require.EqualValues(t, len(text), source.Consumed())
			require.Len(t, items, 3)

			one, err := items[0].Parse(importTime)
			require.NoError(t, err)
			require.Equal(t, "Inbox:#1", items[0].Name)
			require.Equal(t, "Hello\nFrom the start\n>From twice\n\nFrom now on all is text", one.Body)
			require.Equal(t, mail.FromMboxLine, one.SentAtSource)
			require.Equal(t, time.Date(2026, 1, 3, 10, 5, 0, 0, time.UTC), one.SentAt)

			two, err := items[1].Parse(importTime)
			require.NoError(t, err)
			require.Equal(t, time.Date(2026, 1, 4, 10, 0, 0, 0, time.UTC), two.SentAt)
			require.Contains(t, two.Body, "no empty line before")

			three, err := items[2].Parse(importTime)
			require.NoError(t, err)
			require.Equal(t, "last", three.Body)
		})
	}
}

func TestAMailHasTheSameIDInAnMboxAndInAFile(t *testing.T) {
	t.Parallel()
	const raw = "Subject: x\n\nHello\n"
	folder := write(t, map[string]string{
		"a.eml":  raw,
		"b.mbox": "From a@x Sat Jan  3 10:05:00 2026\n" + raw + "\nFrom a@x Sat Jan  3 10:05:00 2026\n" + raw + "\n",
	})
	source, items := walk(t, folder, mail.Options{})
	require.Equal(t, mail.Folder, source.Format())
	require.Len(t, items, 3)
	for _, item := range items {
		require.Equal(t, raw, string(item.Raw), item.Name)
	}
}

func TestAFolderGivesTheMailOfAllDepths(t *testing.T) {
	t.Parallel()
	source, items := walk(t, "testdata/eml", mail.Options{})
	require.Equal(t, mail.Folder, source.Format())
	require.Len(t, items, 53)
	require.Equal(t, "malformed/000.eml", items[0].Name)
	require.Equal(t, source.Total(), source.Consumed())
	for _, item := range items {
		message, err := item.Parse(importTime)
		require.NoError(t, err, item.Name)
		requireReadable(t, message)
	}
}

func TestOneFileIsOneMail(t *testing.T) {
	t.Parallel()
	source, items := walk(t, "testdata/eml/rfc/003.eml", mail.Options{})
	require.Equal(t, mail.EML, source.Format())
	require.Len(t, items, 1)
	require.Equal(t, "003.eml", items[0].Name)
}

func TestAMailOverTheLimitIsReportedAndTheOthersAreRead(t *testing.T) {
	t.Parallel()
	large := "Subject: large\n\n" + strings.Repeat("x", 200_000) + "\n\n"
	folder := write(t, map[string]string{
		"1.eml":  large,
		"2.eml":  "Subject: small\n\n",
		"3.mbox": "From a@x Sat Jan  3 10:05:00 2026\n" + large + "From a@x Sat Jan  3 10:05:00 2026\nSubject: small\n\n",
	})
	source, items := walk(t, folder, mail.Options{Limit: 1_000})
	require.Len(t, items, 4)
	for i, large := range []bool{true, false, true, false} {
		require.Equal(t, large, errors.Is(items[i].Err, mail.ErrTooLarge), items[i].Name)
		require.Equal(t, large, items[i].Raw == nil)
		_, err := items[i].Parse(importTime)
		require.Equal(t, large, err != nil)
	}
	require.Equal(t, source.Total(), source.Consumed())
}

func TestWhatIsNoRegularFileIsReported(t *testing.T) {
	t.Parallel()
	folder := write(t, map[string]string{"a.eml": "Subject: x\n\n"})
	require.NoError(t, os.Symlink("a.eml", filepath.Join(folder, "b.eml")))
	_, items := walk(t, folder, mail.Options{})
	require.Len(t, items, 2)
	require.NoError(t, items[0].Err)
	require.Error(t, items[1].Err)
}

func TestAFolderWithoutMailIsRefused(t *testing.T) {
	t.Parallel()
	_, err := mail.Open(write(t, map[string]string{"notes.txt": "x"}), mail.Options{})
	require.ErrorIs(t, err, mail.ErrNoMail)
	_, err = mail.Open(filepath.Join(t.TempDir(), "missing"), mail.Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWalkingStopsAtAnErrorAndWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(write(t, map[string]string{"m": mbox}), "m")
	source, err := mail.Open(path, mail.Options{})
	require.NoError(t, err)
	stop := errors.New("stop")
	count := 0
	require.ErrorIs(t, source.Walk(t.Context(), func(mail.Item) error { count++; return stop }), stop)
	require.Equal(t, 1, count)

	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, source.Walk(ctx, func(mail.Item) error { count++; cancel(); return nil }), context.Canceled)
	require.Equal(t, 2, count)
}

func TestALongMboxIsReadInBoundedMemory(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	for i := range 2_000 {
		fmt.Fprintf(&text, "From a@x Sat Jan  3 10:05:00 2026\nSubject: %d\n\n%s\n\n", i, strings.Repeat("0123456789abcde\n", 256))
	}
	path := filepath.Join(write(t, map[string]string{"m": text.String()}), "m")
	source, err := mail.Open(path, mail.Options{})
	require.NoError(t, err)
	count := 0
	require.NoError(t, source.Walk(t.Context(), func(item mail.Item) error {
		count++
		require.Less(t, len(item.Raw), 5_000)
		require.LessOrEqual(t, source.Consumed(), int64(count+1)*4_300, "read ahead")
		return nil
	}))
	require.Equal(t, 2_000, count)
}
