//go:build ignore

// Derive makes tables that lethe imports of public data that nobody here made:
//
//	go run derive.go [-year 2010] [-to FOLDER]
//
// It reads the folders beside it, takes nothing from the clock or from chance, and says on the standard output what it
// could not derive. What the data says is kept as it is:
//
//   - customers.csv: each store of AdventureWorks by its name, with the phone number of the first person in
//     BusinessEntityContact to talk to there;
//   - calls.csv: each of the 4,119 calls of a Portuguese bank (UCI Bank Marketing), in the file's order, with its month,
//     day of the week and duration.
//
// What it adds, because the data does not say it:
//
//   - the year, of which -year is taken. The calls were made from May 2008 to November 2010;
//   - the day of the month: calls of the same month and day of the week go to the first such day, the next, and so on in
//     turn; and the time of the day: from 09:00 on, in steps that fit into eight hours. It is read as UTC;
//   - the number that was called: that of the row of PersonPhone with the same place in its file;
//   - the direction: all are outbound, as the data set's description says. The number that called is unknown;
//   - the id: uci- and the line of the row in the file.
//
// All are ANSWERED, as each has a duration. Numbers such as 697-555-0142 are of the North American plan and become
// +16975550142. Others are no number of any plan as they are written (1 (11) 500 555-0132, or 116-555-0142: no area code
// begins with 0 or 1), and are left out.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	year := flag.Int("year", 2010, "the year of the calls")
	from := flag.String("from", ".", "the folder of this program")
	to := flag.String("to", ".", "where the tables go")
	flag.Parse()
	if err := run(*year, *from, *to); err != nil {
		log.Fatal(err)
	}
}

func run(year int, from, to string) error {
	works := func(name string) ([][]string, error) {
		return read(filepath.Join(from, "adventureworks", name+".csv.gz"), "+|", "&|")
	}
	stores, err := works("Store")
	if err != nil {
		return err
	}
	people, err := works("BusinessEntityContact")
	if err != nil {
		return err
	}
	phones, err := works("PersonPhone")
	if err != nil {
		return err
	}
	bank, err := read(filepath.Join(from, "uci", "bank-additional.csv.gz"), ";", "")
	if err != nil {
		return err
	}
	customers, err := customersOf(stores, people, phones)
	if err != nil {
		return err
	}
	calls, err := callsOf(bank, phones, year)
	if err != nil {
		return err
	}
	for name, table := range map[string][][]string{"customers": customers, "calls": calls} {
		if err := write(filepath.Join(to, name+".csv.gz"), table); err != nil {
			return err
		}
	}
	without := func(table [][]string, column int) (n int) {
		for _, row := range table[1:] {
			if row[column] == "" {
				n++
			}
		}
		return n
	}
	fmt.Printf("%d customers, %d without a number; %d calls, %d without a number\n",
		len(customers)-1, without(customers, 1), len(calls)-1, without(calls, 2))
	return nil
}

// read splits a compressed file into rows and fields. Neither file quotes anything.
func read(path, field, end string) (rows [][]string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	lines := bufio.NewScanner(plain)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rows = append(rows, strings.Split(strings.TrimSuffix(strings.TrimSuffix(lines.Text(), "\r"), end), field))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rows, nil
}

func write(path string, table [][]string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	packed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := csv.NewWriter(packed)
	if err := out.WriteAll(table); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return file.Close()
}

var northAmerican = regexp.MustCompile(`^([2-9]\d\d)-([2-9]\d\d)-(\d{4})$`)

// e164 is a number as ITU-T E.164 has it, or nothing.
func e164(number string) string {
	m := northAmerican.FindStringSubmatch(number)
	if m == nil {
		return ""
	}
	return "+1" + m[1] + m[2] + m[3]
}

func customersOf(stores, people, phones [][]string) ([][]string, error) {
	number := map[string]string{}
	for _, row := range phones {
		number[row[0]] = e164(row[1])
	}
	person := map[string]string{}
	for _, row := range people {
		if _, seen := person[row[0]]; !seen {
			person[row[0]] = row[1]
		}
	}
	table := [][]string{{"name", "phone"}}
	for _, row := range stores {
		if _, known := number[person[row[0]]]; !known && person[row[0]] != "" {
			return nil, fmt.Errorf("store %s: person %s is not in PersonPhone", row[0], person[row[0]])
		}
		table = append(table, []string{row[1], number[person[row[0]]]})
	}
	return table, nil
}

var (
	months = strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")
	days   = strings.Fields("sun mon tue wed thu fri sat")
)

func callsOf(bank, phones [][]string, year int) ([][]string, error) {
	header := bank[0]
	month, day, duration := slices.Index(header, "month"), slices.Index(header, "day_of_week"), slices.Index(header, "duration")
	bank = bank[1:]
	if month < 0 || day < 0 || duration < 0 || len(bank) > len(phones) {
		return nil, fmt.Errorf("%d calls with %v, %d numbers", len(bank), header, len(phones))
	}
	total := map[[2]string]int{}
	for _, row := range bank {
		total[[2]string{row[month], row[day]}]++
	}
	seen := map[[2]string]int{}
	table := [][]string{{"externalID", "direction", "toNumber", "startedAt", "durationSeconds", "outcome"}}
	for i, row := range bank {
		group := [2]string{row[month], row[day]}
		m, d := slices.Index(months, row[month]), slices.Index(days, row[day])
		if m < 0 || d < 0 {
			return nil, fmt.Errorf("line %d: month %q, day %q", i+2, row[month], row[day])
		}
		dates := datesOf(year, time.Month(m+1), time.Weekday(d))
		k := seen[group]
		seen[group]++
		each := (total[group] + len(dates) - 1) / len(dates) // calls on one of these days
		at := dates[k%len(dates)].Add(9*time.Hour + (8*time.Hour/time.Duration(each)).Truncate(time.Second)*time.Duration(k/len(dates)))
		table = append(table, []string{
			"uci-" + strconv.Itoa(i+2), "OUTBOUND", e164(phones[i][1]), at.Format(time.RFC3339), row[duration], "ANSWERED",
		})
	}
	return table, nil
}

// datesOf are the days of a month that are such a day of the week.
func datesOf(year int, month time.Month, day time.Weekday) (dates []time.Time) {
	for at := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC); at.Month() == month; at = at.AddDate(0, 0, 1) {
		if at.Weekday() == day {
			dates = append(dates, at)
		}
	}
	return dates
}
