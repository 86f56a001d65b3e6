package mail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// fromLine starts the line before each mail of an mbox (RFC 4155 appendix A).
var fromLine = []byte("From ")

// mboxLine is how much of a line is looked at; longer lines come in pieces.
const mboxLine = 64 << 10

// walkMbox hands every mail of an mbox to fn. A mail begins behind a From_
// line, which is at the start of the file or follows an empty line, and holds
// a date if the first of the file does: text that happens to begin with
// "From " is seldom followed by one.
func (s *Source) walkMbox(ctx context.Context, f file, fn func(Item) error) error {
	opened, err := os.Open(f.path)
	if err != nil {
		return fn(Item{Name: f.name, Err: err})
	}
	defer opened.Close()

	var (
		lines      = bufio.NewReaderSize(opened, mboxLine)
		mail       = mboxMail{limit: s.limit}
		number     = 0
		dated      = false
		lineStart  = true
		afterEmpty = true
	)
	hand := func() error {
		if number == 0 {
			return nil
		}
		item := mail.item()
		item.Name = fmt.Sprintf("%s:#%d", f.name, number)
		return fn(item)
	}
	for {
		line, err := lines.ReadSlice('\n')
		s.consumed.Add(int64(len(line)))
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			mail.err = err
			return hand()
		}
		if lineStart && afterEmpty && bytes.HasPrefix(line, fromLine) {
			at, ok := parseDate(string(line[len(fromLine):]))
			if ok || !dated {
				if failed := hand(); failed != nil {
					return failed
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if number == 0 {
					dated = ok
				}
				number++
				mail.begin(at)
				line, afterEmpty = nil, false
			}
		}
		if len(line) > 0 {
			mail.add(line, lineStart)
			afterEmpty = lineStart && len(bytes.TrimRight(line, "\r\n")) == 0
		}
		if errors.Is(err, io.EOF) {
			return hand()
		}
		lineStart = err == nil
	}
}

// mboxMail collects one mail and forgets it when it grows over the limit.
type mboxMail struct {
	limit int64
	raw   []byte
	at    time.Time
	err   error
}

func (m *mboxMail) begin(at time.Time) {
	m.raw, m.at, m.err = nil, at, nil
}

func (m *mboxMail) add(line []byte, lineStart bool) {
	if m.err != nil {
		return
	}
	if lineStart && line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), fromLine) {
		line = line[1:]
	}
	if int64(len(m.raw)+len(line)) > m.limit {
		m.raw, m.err = nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, m.limit)
		return
	}
	m.raw = append(m.raw, line...)
}

// item is the mail without the empty line that an mbox puts behind it, so that
// its bytes, and an id made from them, are those of the mail itself.
func (m *mboxMail) item() Item {
	if m.err != nil {
		return Item{Err: m.err, Times: Times{MboxFrom: m.at}}
	}
	raw := m.raw
	switch {
	case bytes.HasSuffix(raw, []byte("\r\n\r\n")):
		raw = raw[:len(raw)-2]
	case bytes.HasSuffix(raw, []byte("\n\n")):
		raw = raw[:len(raw)-1]
	}
	return Item{Raw: raw, Times: Times{MboxFrom: m.at}}
}
