package store

import (
	"time"

	"entgo.io/ent/dialect"
)

// Period is what times are counted by, in UTC.
type Period string

// The periods. A week begins on Monday.
const (
	Day   Period = "DAY"
	Week  Period = "WEEK"
	Month Period = "MONTH"
)

// Start is when the period began that a time falls into.
func (p Period) Start(at time.Time) time.Time {
	year, month, day := at.UTC().Date()
	switch p {
	case Week:
		day -= (int(at.UTC().Weekday()) + 6) % 7
	case Month:
		day = 1
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// Next is when the period after the one that begins at a time begins.
func (p Period) Next(start time.Time) time.Time {
	switch p {
	case Week:
		return start.AddDate(0, 0, 7)
	case Month:
		return start.AddDate(0, 1, 0)
	}
	return start.AddDate(0, 0, 1)
}

// Day is the expression by which a database says on which day, as 2006-01-02, the period of a time in a column began.
func (p Period) Day(database, column string) string {
	if database == dialect.Postgres {
		unit := map[Period]string{Week: "week", Month: "month"}[p]
		if unit == "" {
			unit = "day"
		}
		return `to_char(date_trunc('` + unit + `', ` + column + ` AT TIME ZONE 'UTC'), 'YYYY-MM-DD')`
	}
	day := `substr(` + column + `, 1, 10)` // times are kept as text in UTC
	switch p {
	case Week:
		return `date(` + day + `, '-6 days', 'weekday 1')` // the Monday on or after the sixth day before
	case Month:
		return `date(` + day + `, 'start of month')`
	}
	return day
}
