package lifecycle

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Apply is the form under which values are compared: NFKC and lower case,
// domains in their ASCII form (IDNA). Empty values fold to "".
func (f Fold) Apply(s string) string {
	s = strings.TrimSpace(s)
	if f == FoldNone {
		return s
	}
	s = strings.ToLower(norm.NFKC.String(s))
	switch f {
	case FoldDomain:
		return asciiDomain(s)
	case FoldEmail:
		if local, domain, ok := strings.Cut(s, "@"); ok {
			return local + "@" + asciiDomain(domain)
		}
	}
	return s
}

func asciiDomain(s string) string {
	if ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, ".")); err == nil {
		return ascii
	}
	return s
}
