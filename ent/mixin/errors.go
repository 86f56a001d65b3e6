package mixin

import "fmt"

// TooLong reports text over its limit.
type TooLong struct {
	Max  int
	Unit string
}

func (e TooLong) Error() string { return fmt.Sprintf("is longer than %d %s", e.Max, e.Unit) }
