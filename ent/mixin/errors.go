package mixin

import "fmt"

// TooLongError reports text over its limit.
type TooLongError struct {
	Max  int
	Unit string
}

func (e TooLongError) Error() string { return fmt.Sprintf("is longer than %d %s", e.Max, e.Unit) }

// FormatError reports text that is not in the form it must have.
type FormatError struct{ Want string }

func (e FormatError) Error() string { return "is not " + e.Want }
