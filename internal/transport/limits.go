package transport

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// limit is one of Limits by the name operators set it by.
type limit struct {
	name string
	at   *int
	most int
}

func (l *Limits) named() []limit {
	return []limit{
		{"body", &l.Body, 1 << 30},
		{"tokens", &l.Tokens, math.MaxInt32},
		{"operations", &l.Operations, math.MaxInt32},
		{"depth", &l.Depth, 1_000}, // what is deeper than the stack ends the process
		{"aliases", &l.Aliases, math.MaxInt32},
		{"root-fields", &l.RootFields, math.MaxInt32},
		{"directives", &l.Directives, math.MaxInt32},
		{"fields", &l.Fields, math.MaxInt32},
		{"merge-work", &l.MergeWork, math.MaxInt32},
		{"cost", &l.Cost, math.MaxInt32},
		{"page-size", &l.PageSize, maxPageSize},
		{"ids", &l.IDs, math.MaxInt32},
		{"input-depth", &l.InputDepth, 1_000},
		{"input-nodes", &l.InputNodes, math.MaxInt32},
	}
}

// UnmarshalText implements encoding.TextUnmarshaler: it reads limits as in
// depth=20,cost=500000. What is not named is as DefaultLimits has it.
func (l *Limits) UnmarshalText(text []byte) error {
	read := DefaultLimits()
	for setting := range strings.SplitSeq(string(text), ",") {
		name, value, _ := strings.Cut(setting, "=")
		if err := read.set(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	*l = read
	return nil
}

func (l *Limits) set(name, value string) error {
	var names []string
	for _, known := range l.named() {
		if known.name != name {
			names = append(names, known.name)
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > known.most {
			return fmt.Errorf("the limit %s is a number from 1 to %d", name, known.most)
		}
		*known.at = n
		return nil
	}
	return fmt.Errorf("there is no limit %q; there are %s, set as in depth=20,cost=500000", name, strings.Join(names, ", "))
}
