package mail

import "strings"

// ParseAddresses reads a list of mailboxes as people write it, separated by
// commas or semicolons, with names or without.
func ParseAddresses(list string) []Address {
	return parseAddresses(list, func(name string) string { return name })
}

// parseAddresses reads the value of an address field (RFC 5322 section 3.4).
// Members of groups are returned like any other mailbox. It takes what is
// there rather than refuse: unquoted commas in encoded words, names without an
// address, text behind the angle bracket. decode turns a name into text.
func parseAddresses(value string, decode func(string) string) []Address {
	list := addressList{decode: decode}
	list.read(value)
	return list.found
}

type addressList struct {
	decode  func(string) string
	found   []Address
	words   []string // the name, or an address without angle brackets
	comment []string
	angle   string
	inAngle bool // an angle address was read
	again   bool // what an encoded word holds is being read
}

// These bound the work on one field.
const (
	maxAddressField = 256 << 10 // bytes
	maxListed       = 10_000    // mailboxes
)

func (l *addressList) read(value string) {
	for rest := cutBytes(value, maxAddressField); rest != "" && len(l.found) < maxListed; {
		switch c := rest[0]; {
		case c == '"':
			quoted, after := quotedString(rest)
			l.words = append(l.words, quoted)
			rest = after
			if strings.HasPrefix(rest, "@") { // a quoted local part
				end := wordEnd(rest)
				l.words[len(l.words)-1] = `"` + quoted + `"` + rest[:end]
				rest = rest[end:]
			}
		case c == '(':
			comment, after := commentText(rest)
			l.comment = append(l.comment, comment)
			rest = after
		case c == '<':
			angle, after, closed := strings.Cut(rest[1:], ">")
			if !closed {
				angle, after, _ = strings.Cut(angle, ",")
			}
			if !l.inAngle {
				l.angle, l.inAngle = angle, true
			}
			rest = after
		case c == ',' || c == ';':
			l.end()
			rest = rest[1:]
		case c == ':' && !l.inAngle: // what stood before is the name of a group
			l.words, l.comment = nil, nil
			rest = rest[1:]
		case strings.IndexByte(" \t\r\n", c) >= 0, c == ':', c == '>', c == ')':
			rest = rest[1:]
		default:
			end := wordEnd(rest)
			l.words = append(l.words, rest[:end])
			rest = rest[end:]
		}
	}
	l.end()
}

// wordEnd is where the word at the start of text ends. An encoded word is one
// word whatever it holds.
func wordEnd(text string) int {
	if length := encodedWordLength(text); length > 0 {
		return length
	}
	for i := 1; i < len(text); i++ {
		if strings.IndexByte(" \t\r\n,;:<>()\"", text[i]) >= 0 {
			return i
		}
		if encodedWordLength(text[i:]) > 0 {
			return i
		}
	}
	return len(text)
}

// maxEncodedWord bounds the search for the end of an encoded word; RFC 2047
// section 2 allows 75 characters.
const maxEncodedWord = 2_000

func encodedWordLength(text string) int {
	if !strings.HasPrefix(text, "=?") {
		return 0
	}
	at := leadingEncodedWord.FindStringIndex(text[:min(len(text), maxEncodedWord)])
	if at == nil {
		return 0
	}
	return at[1]
}

// end closes the mailbox that was being read.
func (l *addressList) end() {
	words, comment, angle, inAngle := l.words, l.comment, l.angle, l.inAngle
	l.words, l.comment, l.angle, l.inAngle = nil, nil, "", false

	var mailbox Address
	if inAngle {
		mailbox.Address = angle
	} else {
		words, mailbox.Address = takeAddress(words)
	}
	mailbox.Address = tidyAddress(l.decode(mailbox.Address))
	mailbox.Name = strings.TrimSpace(l.decode(strings.Join(words, " ")))
	if mailbox.Name == "" {
		mailbox.Name = strings.TrimSpace(l.decode(strings.Join(comment, " ")))
	}
	switch {
	case mailbox == Address{}:
	case mailbox.Address == "" && !l.again && strings.Contains(mailbox.Name, "@"):
		l.again = true // an encoded word around a whole mailbox
		l.read(mailbox.Name)
		l.again = false
	default:
		l.found = append(l.found, mailbox)
	}
}

// takeAddress takes the word with "@" out of the words of a mailbox that has
// no angle brackets.
func takeAddress(words []string) (name []string, address string) {
	for i, word := range words {
		if strings.Contains(word, "@") && !strings.HasPrefix(word, "=?") {
			return append(append([]string{}, words[:i]...), words[i+1:]...), word
		}
	}
	return words, ""
}

// tidyAddress removes what does not belong to an address: comments, spaces,
// and the route of RFC 822 ("@relay:user@host").
func tidyAddress(address string) string {
	address = strings.Join(strings.Fields(withoutComments(address)), "")
	if strings.HasPrefix(address, "@") {
		if _, after, ok := strings.Cut(address, ":"); ok {
			return after
		}
	}
	return strings.TrimPrefix(address, "mailto:")
}

// quotedString reads the quoted string at the start of text.
func quotedString(text string) (content, rest string) {
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case text[i] == '"':
			return out.String(), text[i+1:]
		default:
			out.WriteByte(text[i])
		}
	}
	return out.String(), ""
}

// commentText reads the comment at the start of text, with those inside it.
func commentText(text string) (content, rest string) {
	var out strings.Builder
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case text[i] == '(':
			if depth++; depth > 1 {
				out.WriteByte('(')
			}
		case text[i] == ')':
			if depth--; depth == 0 {
				return out.String(), text[i+1:]
			}
			out.WriteByte(')')
		default:
			out.WriteByte(text[i])
		}
	}
	return out.String(), ""
}
