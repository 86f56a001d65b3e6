package mixin

import "fmt"

// TooLongError reports text over its limit.
type TooLongError struct {
	Max  int
	Unit string
}

func (e TooLongError) Error() string { return fmt.Sprintf("is longer than %d %s", e.Max, e.Unit) }
