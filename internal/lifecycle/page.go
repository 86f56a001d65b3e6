package lifecycle

import "strings"

// Page draws the state machine as Markdown, from the table.
func Page() string {
	var b strings.Builder
	b.WriteString("# The life of a record\n\nWritten by `LETHE_UPDATE=1 go test ./internal/lifecycle`; do not edit.\n\n")
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> ACTIVE: create\n")
	for _, s := range States() {
		for _, v := range Verbs() {
			switch m := Next(s, v); {
			case m.To != "" && m.To != s:
				b.WriteString("    " + string(s) + " --> " + string(m.To) + ": " + strings.ToLower(string(v)) + "\n")
			case m.Gone:
				b.WriteString("    " + string(s) + " --> [*]: " + strings.ToLower(string(v)) + "\n")
			}
		}
	}
	b.WriteString("```\n\nRestore leads back to the prior state: where the operation that put the record into its state found it.\n\n| from |")
	for _, v := range Verbs() {
		b.WriteString(" " + strings.ToLower(string(v)) + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(Verbs())) + "\n")
	for _, s := range States() {
		b.WriteString("| " + string(s) + " |")
		for _, v := range Verbs() {
			b.WriteString(" " + Next(s, v).String() + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// String is the move in a word.
func (m Move) String() string {
	switch {
	case m.Unchanged:
		return "unchanged"
	case m.Prior:
		return "prior state"
	case m.Gone:
		return "purged"
	case m.Code == IllegalTransition:
		return "refused"
	case m.Code != "":
		return string(m.Code)
	}
	return string(m.To)
}
