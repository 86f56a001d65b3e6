package mixin

import "strings"

// PhoneMarks are what people write between digits, and before them the zero
// that is dialled inland only: +44 (0)20. They are taken out in this order.
func PhoneMarks() []string { return []string{"(0)", " ", "-", ".", "(", ")", "/", "\u00a0"} }

// Phone brings an international number into E.164. A national one it refuses:
// whose it is depends on where it was written.
func Phone(s string) (string, bool) {
	for _, mark := range PhoneMarks() {
		s = strings.ReplaceAll(s, mark, "")
	}
	if rest, ok := strings.CutPrefix(s, "00"); ok {
		s = "+" + rest
	}
	return s, E164(s) == nil
}
