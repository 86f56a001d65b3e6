package mail

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Dates as they stand in mail: RFC 5322 with its obsolete forms, and asctime
// as in mbox From_ lines, with or without a zone before or after the year.
var (
	mailDate    = regexp.MustCompile(`(?i)(?:^|[\s,])(\d{1,2})[\s-]+([a-z]{3,9}|\d{1,2})[\s-]+(\d{2,4})[\s,]+(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:[.,]\d+)?\s*([+-]\d{2}:?\d{2}|[a-z]{1,5})?`)
	asctimeDate = regexp.MustCompile(`(?i)(?:^|[\s,])([a-z]{3,9})\s+(\d{1,2}),?\s+(\d{1,2}):(\d{2})(?::(\d{2}))?\s+(?:([a-z]{1,5}|[+-]\d{4})\s+)?(\d{4})(?:\s+([+-]\d{4}))?`)
	isoDate     = regexp.MustCompile(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})`)
)

// maxDateLength bounds the text that is searched for a date.
const maxDateLength = 1_000

// parseDate finds a date in a header value and returns it in UTC.
func parseDate(value string) (time.Time, bool) {
	value = withoutComments(cutBytes(value, maxDateLength))
	if m := mailDate.FindStringSubmatch(value); m != nil {
		return dateOf(m[3], m[2], m[1], m[4], m[5], m[6], m[7])
	}
	if m := asctimeDate.FindStringSubmatch(value); m != nil {
		return dateOf(m[7], m[1], m[2], m[3], m[4], m[5], firstNonEmpty(m[8], m[6]))
	}
	at, err := time.Parse(time.RFC3339, isoDate.FindString(value))
	return at.UTC(), err == nil
}

func dateOf(year, month, day, hour, minute, second, zone string) (time.Time, bool) {
	y, mon, d := number(year), monthOf(month), number(day)
	h, m, s := number(hour), number(minute), number(second)
	switch { // RFC 5322 section 4.3
	case len(year) == 2 && y < 50:
		y += 2000
	case len(year) < 4:
		y += 1900
	}
	if mon == 0 || d == 0 || d > 31 || h > 24 || m > 59 || s > 60 || y < 1900 {
		return time.Time{}, false
	}
	return time.Date(y, mon, d, h, m, s, 0, time.UTC).Add(-zoneOffset(zone)), true
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits) // only digits get here; none is 0
	return n
}

func monthOf(text string) time.Month {
	if n := number(text); n >= 1 && n <= 12 {
		return time.Month(n)
	}
	for month := time.January; month <= time.December; month++ {
		if len(text) >= 3 && strings.HasPrefix(strings.ToLower(month.String()), strings.ToLower(text)) {
			return month
		}
	}
	return 0
}

// zones are the names RFC 5322 section 4.3 gives a meaning, in hours.
var zones = map[string]int{"EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7, "PST": -8}

// zoneOffset is what a zone is ahead of UTC. Unknown names are UTC, as RFC
// 5322 section 4.3 asks.
func zoneOffset(zone string) time.Duration {
	if zone == "" {
		return 0
	}
	if zone[0] != '+' && zone[0] != '-' {
		return time.Duration(zones[strings.ToUpper(zone[:min(3, len(zone))])]) * time.Hour
	}
	digits := number(strings.ReplaceAll(zone[1:], ":", ""))
	offset := time.Duration(digits/100)*time.Hour + time.Duration(digits%100)*time.Minute
	if zone[0] == '-' {
		return -offset
	}
	return offset
}

// withoutComments removes what stands in parentheses.
func withoutComments(value string) string {
	var out strings.Builder
	depth := 0
	for _, char := range value {
		switch {
		case char == '(':
			depth++
		case char == ')' && depth > 0:
			depth--
			out.WriteByte(' ')
		case depth == 0:
			out.WriteRune(char)
		}
	}
	return out.String()
}
