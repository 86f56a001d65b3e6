package mail_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/lethe-crm/lethe/internal/mail"
)

// requireReadable asserts what holds for every message.
func requireReadable(t *testing.T, message mail.Message) {
	t.Helper()
	texts := []string{message.MessageID, message.Subject, message.Body, message.ThreadKey, message.InReplyTo}
	if message.Sender != nil {
		texts = append(texts, message.Sender.Name, message.Sender.Address)
	}
	for _, recipient := range message.Recipients {
		texts = append(texts, recipient.Name, recipient.Address.Address)
		require.Contains(t, []string{mail.To, mail.CC, mail.BCC}, recipient.Kind)
	}
	for _, text := range append(texts, message.Warnings...) {
		require.True(t, utf8.ValidString(text), "%q", text)
		require.NotContains(t, text, "\x00")
	}
	require.NotEmpty(t, message.MessageID)
	require.NotEmpty(t, message.ThreadKey)
	require.LessOrEqual(t, utf8.RuneCountInString(message.Subject), mail.MaxSubject)
	require.LessOrEqual(t, len(message.Body), mail.MaxBody)
	require.False(t, message.SentAt.IsZero())
	require.Contains(t, []string{mail.Normal, mail.Spam, mail.Mailing}, message.Category)
}

// parse reads a mail written with \n and asserts that it is readable.
func parse(t *testing.T, raw string) mail.Message {
	t.Helper()
	message, err := mail.Parse([]byte(raw), mail.Times{Import: importTime})
	require.NoError(t, err)
	requireReadable(t, message)
	return message
}

const (
	russian = "Добрый день! Счёт за март оплачен, спасибо."
	chinese = "您好，请问发票什么时候可以寄出？"
	taiwan  = "您好，請問發票什麼時候可以寄出？"
	nippon  = "こんにちは。請求書を送ってください。"
	korea   = "안녕하세요. 송장을 보내 주세요."
	german  = "Schöne Grüße aus Köln, Herr Müller – 100 €"
	greek   = "Καλημέρα σας"
	polish  = "Zażółć gęślą jaźń"
	hebrew  = "שלום עולם"
)

func TestTextIsReadInEveryCharset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		label string
		from  encoding.Encoding
		text  string
	}{
		{"koi8-r", charmap.KOI8R, russian},
		{"KOI8-U", charmap.KOI8U, "Їжак і ґанок"},
		{"windows-1251", charmap.Windows1251, russian},
		{"cp1251", charmap.Windows1251, russian},
		{"ibm866", charmap.CodePage866, russian},
		{"iso-8859-5", charmap.ISO8859_5, "Добрый день"},
		{"x-mac-cyrillic", charmap.MacintoshCyrillic, "Добрый день"},
		{"gb2312", simplifiedchinese.GBK, chinese},
		{"GBK", simplifiedchinese.GBK, chinese},
		{"gb18030", simplifiedchinese.GB18030, chinese + "😀"},
		{"hz-gb-2312", simplifiedchinese.HZGB2312, "您好"},
		{"big5", traditionalchinese.Big5, taiwan},
		{"iso-2022-jp", japanese.ISO2022JP, nippon},
		{"shift_jis", japanese.ShiftJIS, nippon},
		{"euc-jp", japanese.EUCJP, nippon},
		{"euc-kr", korean.EUCKR, korea},
		{"ks_c_5601-1987", korean.EUCKR, korea},
		{"windows-1252", charmap.Windows1252, german},
		{"iso-8859-1", charmap.ISO8859_1, "Schöne Grüße"},
		{"iso-8859-15", charmap.ISO8859_15, "100 € für Müller"},
		{"windows-1250", charmap.Windows1250, polish},
		{"iso-8859-2", charmap.ISO8859_2, polish},
		{"windows-1253", charmap.Windows1253, greek},
		{"iso-8859-7", charmap.ISO8859_7, greek},
		{"windows-1254", charmap.Windows1254, "İyi günler"},
		{"windows-1255", charmap.Windows1255, hebrew},
		{"iso-8859-8-i", charmap.ISO8859_8, hebrew},
		{"windows-1256", charmap.Windows1256, "مرحبا"},
		{"windows-1257", charmap.Windows1257, "Ačiū"},
		{"windows-874", charmap.Windows874, "สวัสดี"},
		{"cp850", charmap.CodePage850, "Schöne Grüße"},
		{"cp437", charmap.CodePage437, "Schöne Grüße"},
		{"macintosh", charmap.Macintosh, "Schöne Grüße"},
		{"utf-16", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), russian},
		{"utf-16le", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), russian},
		{"utf-8", encoding.Nop, russian + german + chinese},
		{`"UTF8"`, encoding.Nop, russian},
	} {
		t.Run(c.label, func(t *testing.T) {
			t.Parallel()
			encoded, err := c.from.NewEncoder().Bytes([]byte(c.text))
			require.NoError(t, err)
			coded := base64.StdEncoding.EncodeToString(encoded)
			message := parse(t, fmt.Sprintf(
				"Subject: =?%s?B?%s?=\nFrom: =?%[1]s?b?%[2]s?= <a@example.com>\nContent-Type: text/plain; charset=%[3]s\nContent-Transfer-Encoding: base64\n\n%[2]s\n",
				strings.Trim(c.label, `"`), coded, c.label))
			require.Equal(t, c.text, message.Subject)
			require.Equal(t, c.text, message.Body)
			require.Equal(t, &mail.Address{Address: "a@example.com", Name: c.text}, message.Sender)
			require.Empty(t, message.Warnings)
		})
	}
}

func TestTextInUTF7AndShiftedKoreanIsRead(t *testing.T) {
	t.Parallel()
	message := parse(t, "Subject: =?utf-7?Q?Gr+APwA3w-e?=\nContent-Type: text/plain; charset=utf-7\n\nHi Mom +Jjo-!\n")
	require.Equal(t, "Grüße", message.Subject)
	require.Equal(t, "Hi Mom ☺!", message.Body)

	message = parse(t, "Content-Type: text/plain; charset=iso-2022-kr\n\n\x1b$)C\x0e>H3g\x0f!\n")
	require.Equal(t, "안녕!", message.Body)
}

func TestTextWithoutADeclaredCharsetIsGuessed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(russian+"\n", 5)
	koi8, err := charmap.KOI8R.NewEncoder().String(long)
	require.NoError(t, err)
	gbk, err := simplifiedchinese.GBK.NewEncoder().String(chinese)
	require.NoError(t, err)
	latin, err := charmap.Windows1252.NewEncoder().String(german)
	require.NoError(t, err)
	for name, c := range map[string]struct{ header, body, want string }{
		"gbk":                     {"", gbk, chinese},
		"windows-1252":            {"", latin, german},
		"utf-8":                   {"", long, long},
		"koi8-r":                  {"", koi8, long},
		"us-ascii that is koi8-r": {"Content-Type: text/plain; charset=us-ascii\n", koi8, long},
		"utf-8 labelled latin-1":  {"Content-Type: text/plain; charset=iso-8859-1\n", german, german},
		"an unknown label":        {"Content-Type: text/plain; charset=klingon\n", german, german},
		"iso-2022-jp":             {"", "\x1b$B$3$s$K$A$O\x1b(B\n", "こんにちは"},
		"a charset in the HTML": {
			"Content-Type: text/html\n",
			"<meta charset=windows-1251><p>\xc4\xee\xe1\xf0\xfb\xe9 \xe4\xe5\xed\xfc</p>", "Добрый день",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, strings.TrimSpace(c.want), parse(t, "Subject: x\n"+c.header+"\n"+c.body).Body)
		})
	}
}

func TestRawEightBitHeadersAreReadInTheCharsetOfTheText(t *testing.T) {
	t.Parallel()
	raw := "Subject: \xf0\xd2\xc9\xd7\xc5\xd4\nContent-Type: text/plain; charset=koi8-r\n\n\xf0\xd2\xc9\xd7\xc5\xd4\n"
	message := parse(t, raw)
	require.Equal(t, "Привет", message.Subject)
	require.Equal(t, "Привет", message.Body)
	require.Equal(t, "Grüße", parse(t, "Subject: Gr\xfc\xdfe\n\nx\n").Subject)
}

func TestCharactersSplitBetweenEncodedWordsAreJoined(t *testing.T) {
	t.Parallel()
	require.Equal(t, "é", parse(t, "Subject: =?utf-8?Q?=C3?=\n =?utf-8?Q?=A9?=\n\n").Subject)
}

func TestDamagedTransferEncodingsKeepTheirText(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ encoding, body, want string }{
		"base64 with a footer in plain text": {"base64", "SGVsbG8=\n_____ \nlist mailing list\n", "Hello_____ \nlist mailing list"},
		"base64 that is plain text":          {"base64", "Good day, see below.\n", "Good day, see below."},
		"base64 without padding":             {"base64", "SGVsbG8\n", "Hello"},
		"base64 in two padded runs":          {"base64", "SGVsbG8=\nLCB5b3U=\n", "Hello, you"},
		"base64 cut in a group":              {"base64", "SGVsbG8sI", "Hello,"},
		"quoted-printable with stray signs":  {"quoted-printable", "1 = 1 =ZZ =3D=\n!\n", "1 = 1 =ZZ =!"},
		"an unknown encoding":                {"8 bit", "Grüße\n", "Grüße"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := parse(t, "Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: "+c.encoding+"\n\n"+c.body)
			require.Equal(t, c.want, message.Body)
		})
	}
}

func TestHTMLBecomesText(t *testing.T) {
	t.Parallel()
	message := parse(t, "Subject: x\nContent-Type: text/html; charset=utf-8\n\n"+
		`<html><head><title>T</title><style>p{color:red}</style></head><body><h1>Offer</h1>
		<p>Dear <b>Ann</b>,<br>see&nbsp;&lt;this&gt;:</p><ul><li>one</li><li>two</li></ul>
		<script>alert(1)</script><table><tr><td>a</td><td>b</td></tr></table></body></html>`)
	require.Equal(t, "Offer\n\nDear Ann,\nsee <this>:\n\n- one\n- two\n\na b", message.Body)
}

func TestAnEmptyPlainPartLeavesTheHTML(t *testing.T) {
	t.Parallel()
	message := parse(t, "Subject: x\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n \n--b\nContent-Type: text/html\n\n<p>Hello</p>\n--b--\n")
	require.Equal(t, "Hello", message.Body)
}

func TestAttachmentsAreKeptAsTheyWere(t *testing.T) {
	t.Parallel()
	message := parse(t, "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n"+
		"--b\nContent-Type: application/pdf; name=a.pdf\n\nPDF\n"+
		"--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=b.txt\n\nnot the body\n"+
		"--b\nContent-Type: image/png\nContent-Disposition: inline\n\nPNG\n--b--\n")
	require.Equal(t, []mail.Attachment{
		{Filename: "a.pdf", MediaType: "application/pdf", Content: []byte("PDF")},
		{Filename: "b.txt", MediaType: "text/plain", Content: []byte("not the body")},
		{Filename: "attachment 3.png", MediaType: "image/png", Content: []byte("PNG")},
	}, message.Attachments)
	require.Equal(t, "Hello", message.Body)
	require.Equal(t, []mail.Attachment{{Filename: "attachment 1.pdf", MediaType: "application/pdf", Content: []byte("PDF\n")}},
		parse(t, "Subject: x\nContent-Type: application/pdf\n\nPDF\n").Attachments)

	// Encoded, in folders of another machine, and twice.
	const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"
	message = parse(t, "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n"+
		"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"=?utf-8?B?0YTQvtGC0L4ucG5n?=\"\n\n"+png+"\n"+
		"--b\nContent-Type: text/plain; charset=koi8-r\nContent-Disposition: attachment; filename=\"../../etc/passwd\"\nContent-Transfer-Encoding: quoted-printable\n\n=F0=D2=C9\n"+
		"--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=passwd\n\nanother\n"+
		"--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=passwd\n\nanother\n"+
		"--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nText\n--b--\n")
	require.Equal(t, []string{"фото.png", "passwd", "passwd", "attachment 5.eml"}, names(message.Attachments))
	require.Equal(t, png, base64.StdEncoding.EncodeToString(message.Attachments[0].Content))
	require.Equal(t, []byte("\xf0\xd2\xc9"), message.Attachments[1].Content, "in its own charset")
	require.Equal(t, "another", string(message.Attachments[2].Content))
	require.Contains(t, string(message.Attachments[3].Content), "Subject: inner\n\nText")
}

func names(list []mail.Attachment) (out []string) {
	for _, a := range list {
		out = append(out, a.Filename)
	}
	return out
}

func TestTheTimeIsTheFirstThatIsKnown(t *testing.T) {
	t.Parallel()
	const received = "Received: from a by b; Tue, 3 Feb 2026 10:00:00 +0100\nReceived: from c by a; Tue, 3 Feb 2026 09:00:05 +0000\n"
	mbox, maildir := importTime.Add(-time.Hour), importTime.Add(-2*time.Hour)
	for name, c := range map[string]struct {
		header string
		times  mail.Times
		source string
		want   time.Time
	}{
		"Date":            {"Date: Mon, 2 Feb 2026 10:00:00 +0200\n" + received, mail.Times{MboxFrom: mbox}, mail.FromDate, time.Date(2026, 2, 2, 8, 0, 0, 0, time.UTC)},
		"newest Received": {"Date: soon\n" + received, mail.Times{MboxFrom: mbox}, mail.FromReceived, time.Date(2026, 2, 3, 9, 0, 5, 0, time.UTC)},
		"From_ line":      {"", mail.Times{MboxFrom: mbox, MaildirName: maildir}, mail.FromMboxLine, mbox},
		"maildir name":    {"", mail.Times{MaildirName: maildir}, mail.FromMaildirName, maildir},
		"import":          {"", mail.Times{}, mail.FromImportTime, importTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.times.Import = importTime
			message, err := mail.Parse([]byte("Subject: x\n"+c.header+"\nHello\n"), c.times)
			require.NoError(t, err)
			require.Equal(t, c.source, message.SentAtSource)
			require.Equal(t, c.want, message.SentAt)
		})
	}
}

func TestThreadsHangOnTheFirstReference(t *testing.T) {
	t.Parallel()
	message := parse(t, "Message-ID: <3@x>\nIn-Reply-To: <2@x>\nReferences: <1@x>\n <2@x>\n\n")
	require.Equal(t, []string{"3@x", "2@x", "1@x"}, []string{message.MessageID, message.InReplyTo, message.ThreadKey})
	require.Equal(t, "2@x", parse(t, "Message-ID: <3@x>\nIn-Reply-To: Your message of <2@x>\n\n").ThreadKey)
	require.Equal(t, "3@x", parse(t, "Message-ID: <3@x>\n\n").ThreadKey)
}

func TestAMailWithoutAnIDIsKnownByItsBytes(t *testing.T) {
	t.Parallel()
	first, again, other := parse(t, "Subject: a\n\n"), parse(t, "Subject: a\n\n"), parse(t, "Subject: b\n\n")
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, first.MessageID)
	require.Equal(t, first.MessageID, again.MessageID)
	require.NotEqual(t, first.MessageID, other.MessageID)
	require.Regexp(t, `^sha256:`, parse(t, "Message-ID: <>\n\n").MessageID)
}

func TestCategoriesFollowTheHeader(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"X-Spam-Flag: YES":                        mail.Spam,
		"X-Spam-Flag: Yes, score=9\nList-Id: <a>": mail.Spam,
		"X-Spam-Flag: NO":                         mail.Normal,
		"List-Id: <a.example.com>":                mail.Mailing,
		"List-Unsubscribe: <mailto:a@b>":          mail.Mailing,
		"Precedence: Bulk":                        mail.Mailing,
		"Precedence: first-class":                 mail.Normal,
	} {
		require.Equal(t, want, parse(t, header+"\n\nHello\n").Category, header)
	}
}

func TestRecipientsAreKeptByKindOnceEach(t *testing.T) {
	t.Parallel()
	message := parse(t, "From: =?utf-8?Q?Doe,_J=C3=B6rg?= <j@x>\nTo: Team: a@x, \"B, b\" <b@x>;, A@x\nTo: c@x\nCc: a@x\nBcc: undisclosed-recipients:;\n\n")
	require.Equal(t, &mail.Address{Address: "j@x", Name: "Doe, Jörg"}, message.Sender)
	require.Equal(t, []mail.Recipient{
		{Address: mail.Address{Address: "a@x"}, Kind: mail.To},
		{Address: mail.Address{Address: "b@x", Name: "B, b"}, Kind: mail.To},
		{Address: mail.Address{Address: "c@x"}, Kind: mail.To},
		{Address: mail.Address{Address: "a@x"}, Kind: mail.CC},
	}, message.Recipients)
	require.Nil(t, parse(t, "Subject: x\n\n").Sender)
	require.Equal(t, &mail.Address{Address: "s@x"}, parse(t, "Sender: s@x\n\n").Sender)
}

func TestWhatIsTooLongIsCutBetweenCharactersAndReported(t *testing.T) {
	t.Parallel()
	message := parse(t, "Subject: "+strings.Repeat("ü", 2_001)+"\nTo: "+strings.Repeat("a", 400)+"@x, b@x\n"+
		"Message-ID: <"+strings.Repeat("i", 1_000)+">\n\nx"+strings.Repeat("ü", 200_000))
	require.Equal(t, strings.Repeat("ü", 2_000), message.Subject)
	require.Len(t, message.Body, mail.MaxBody-1)
	require.Len(t, message.Recipients, 1)
	require.Regexp(t, `^sha256:`, message.MessageID)
	require.Len(t, message.Warnings, 4)
}

func TestAMailWithoutAHeaderIsAllText(t *testing.T) {
	t.Parallel()
	message := parse(t, "just a line\nSubject: not a field\n")
	require.Equal(t, "just a line\nSubject: not a field", message.Body)
	require.Empty(t, message.Subject)
}

func TestAnEmptyMailIsRefused(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "\n\n", " \r\n"} {
		_, err := mail.Parse([]byte(raw), mail.Times{Import: importTime})
		require.ErrorIs(t, err, mail.ErrEmpty, "%q", raw)
	}
}

func TestAMailMadeToExhaustMemoryIsReadWithoutItsParts(t *testing.T) {
	t.Parallel()
	var deep bytes.Buffer
	deep.WriteString("Subject: x\n")
	for i := range 1_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%[1]d\n", i)
	}
	for name, raw := range map[string]string{
		"deep":            deep.String(),
		"a long header":   "Subject: x\n" + strings.Repeat("A: b\n", 300_000) + "\nHello\n",
		"a long type":     "Subject: x\nContent-Type: multipart/mixed;" + strings.Repeat(" a=b;", 20_000) + "\n\nHello\n",
		"a long boundary": "Subject: x\nContent-Type: multipart/mixed; boundary=" + strings.Repeat("b", 5_000) + "\n\n--" + strings.Repeat("b", 5_000) + "\n\nHello\n",
		"wide":            "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\na\n", 500_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, parse(t, raw).Warnings)
		})
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/eml/*/*.eml")
	require.NoError(f, err)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(f, err)
		if len(raw) < 4<<10 {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		message, err := mail.Parse(raw, mail.Times{Import: importTime})
		if err != nil {
			require.ErrorIs(t, err, mail.ErrEmpty)
			return
		}
		requireReadable(t, message)
	})
}
