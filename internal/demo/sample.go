package demo

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/deal"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/table"
)

//go:embed data
var data embed.FS

// samples is own.json, and what is read from the other folders put to it.
type samples struct {
	Customers  []sampleCustomer `json:"customers"`
	Deals      []sampleDeal     `json:"deals"`
	Calls      []sampleCall     `json:"calls"`
	Tasks      []sampleTask     `json:"tasks"`
	Notes      []sampleNote     `json:"notes"`
	Operations []operation      `json:"operations"`

	mails [][]byte
}

type sampleCustomer struct {
	Name         string          `json:"name"`
	Kind         customer.Kind   `json:"kind"`
	Status       customer.Status `json:"status"`
	Email        string          `json:"email"`
	Phone        string          `json:"phone"`
	Domain       string          `json:"domain"`
	Owner        string          `json:"owner"`
	EndedDaysAgo int             `json:"endedDaysAgo"`
	Contacts     []sampleContact `json:"contacts"`
	Deals        []sampleDeal    `json:"deals"`
	Messages     []sampleMessage `json:"messages"`
}

type sampleContact struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	Phone string `json:"phone"`
	Title string `json:"title"`
}

type sampleDeal struct {
	Customer     string     `json:"customer"` // where it does not stand below one
	Name         string     `json:"name"`
	Amount       float64    `json:"amount"`
	Currency     string     `json:"currency"`
	Stage        deal.Stage `json:"stage"`
	ClosesInDays int        `json:"closesInDays"`
	Contact      string     `json:"contact"` // address

	closesAt time.Time // instead of ClosesInDays
}

type sampleMessage struct {
	ID       string           `json:"id"`
	ReplyTo  string           `json:"replyTo"`
	From     string           `json:"from"`
	To       []string         `json:"to"`
	CC       []string         `json:"cc"`
	DaysAgo  int              `json:"daysAgo"`
	Category message.Category `json:"category"`
	Subject  string           `json:"subject"`
	Body     string           `json:"body"`

	customer string
}

func readSamples() (*samples, error) {
	s := &samples{}
	if err := readJSON("own.json", s); err != nil {
		return nil, err
	}
	if err := s.readStores(); err != nil {
		return nil, err
	}
	if err := s.readSpaces(); err != nil {
		return nil, err
	}
	for i := range s.Customers {
		if s.Customers[i].Owner == "" {
			s.Customers[i].Owner = owners[i%len(owners)]
		}
	}
	files, err := fs.Glob(data, "data/mail/*/*.eml")
	if err != nil {
		return nil, fmt.Errorf("listing the mails: %w", err)
	}
	for _, name := range files {
		raw, err := data.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the mails: %w", err)
		}
		s.mails = append(s.mails, raw)
	}
	return s, nil
}

// owner is the user a customer belongs to.
func (s *samples) owner(customer string) string {
	i := slices.IndexFunc(s.Customers, func(c sampleCustomer) bool { return c.Name == customer })
	return s.Customers[i].Owner
}

func readJSON(name string, v any) error {
	b, err := data.ReadFile("data/" + name)
	if err != nil {
		return fmt.Errorf("reading the sample data: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

// readStores reads the stores of AdventureWorks with a person each. The names
// of the persons are in a table we do not ship; their addresses begin with it.
func (s *samples) readStores() error {
	people, err := rows("BusinessEntityContact", "business person type guid modified", "business", "person")
	if err != nil {
		return err
	}
	emails, err := rows("EmailAddress", "person id address guid modified", "person", "address")
	if err != nil {
		return err
	}
	phones, err := rows("PersonPhone", "person number type modified", "person", "number")
	if err != nil {
		return err
	}
	stores, err := rows("Store", "business name salesperson demographics guid modified", "business", "name")
	if err != nil {
		return err
	}
	for _, store := range stores.keys {
		c := sampleCustomer{Name: strings.TrimSpace(stores.by[store])}
		if person := people.by[store]; emails.by[person] != "" {
			c.Contacts = []sampleContact{{Name: nameOf(emails.by[person]), Email: emails.by[person], Phone: phones.by[person]}}
		}
		s.Customers = append(s.Customers, c)
	}
	return nil
}

// nameOf makes a name of an address such as gustavo0@adventure-works.com.
func nameOf(address string) string {
	local, _, _ := strings.Cut(address, "@")
	name := []rune(strings.TrimRightFunc(local, unicode.IsDigit))
	name[0] = unicode.ToUpper(name[0])
	return string(name)
}

// column is one column of a table by another one, whose values are keys.
type column struct {
	by   map[string]string
	keys []string
}

// rows reads two columns of a table of AdventureWorks.
func rows(name, header, key, value string) (column, error) {
	out := column{by: map[string]string{}}
	b, err := data.ReadFile("data/adventureworks/" + name + ".csv")
	if err != nil {
		return out, fmt.Errorf("reading the sample data: %w", err)
	}
	t, err := table.NewReader(bytes.NewReader(b), int64(len(b)), table.Options{Header: strings.Fields(header), FieldSep: "+|", RowEnd: "&|"})
	if err != nil {
		return out, fmt.Errorf("reading %s: %w", name, err)
	}
	for {
		row, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("reading %s: %w", name, err)
		}
		out.keys, out.by[row.Values[key]] = append(out.keys, row.Values[key]), row.Values[value]
	}
}

// space is a record of Easy Spaces: an account, contact, lead or reservation.
type space struct {
	Attributes struct {
		ReferenceID string `json:"referenceId"`
	} `json:"attributes"`
	Name, FirstName, LastName, Company, Email, MobilePhone, Title string
	AccountID                                                     string `json:"AccountId"`
	Contact                                                       string `json:"Contact__c"`
	Start                                                         string `json:"Start_Date__c"`
	End                                                           string `json:"End_Date__c"`
	Guests                                                        int    `json:"Total_Number_of_Guests__c"`
}

func (s space) ref() string { return "@" + s.Attributes.ReferenceID }

func (s space) contact() sampleContact {
	return sampleContact{Name: s.FirstName + " " + s.LastName, Email: s.Email, Phone: s.MobilePhone, Title: s.Title}
}

// readSpaces reads the accounts, contacts, leads and reservations of Easy Spaces.
func (s *samples) readSpaces() error {
	read := map[string][]space{}
	for _, name := range []string{"Accounts", "Contacts", "Leads", "Reservation__cs"} {
		var file struct {
			Records []space `json:"records"`
		}
		if err := readJSON("easy-spaces/"+name+".json", &file); err != nil {
			return err
		}
		read[name] = file.Records
	}
	employers := map[string]string{} // customers by reference of account or contact
	people := map[string]sampleContact{}
	for _, a := range read["Accounts"] {
		employers[a.ref()] = a.Name
		c := sampleCustomer{Name: a.Name, Kind: kindOf(a.Name)}
		for _, p := range read["Contacts"] {
			if p.AccountID == a.ref() {
				c.Contacts = append(c.Contacts, p.contact())
				employers[p.ref()], people[p.ref()] = a.Name, p.contact()
			}
		}
		s.Customers = append(s.Customers, c)
	}
	for _, lead := range read["Leads"] {
		s.Customers = append(s.Customers, sampleCustomer{
			Name: lead.Company, Kind: kindOf(lead.Company), Status: customer.StatusLEAD, Contacts: []sampleContact{lead.contact()},
		})
	}
	for _, r := range read["Reservation__cs"] {
		start, err := time.Parse(time.DateOnly, r.Start)
		if err != nil {
			return fmt.Errorf("reading a reservation: %w", err)
		}
		s.Deals = append(s.Deals, sampleDeal{
			Customer: employers[r.Contact], Contact: people[r.Contact].Email, closesAt: start,
			Name: fmt.Sprintf("Space for %d guests from %s to %s", r.Guests, r.Start, r.End),
		})
	}
	return nil
}

func kindOf(name string) customer.Kind {
	if strings.HasSuffix(name, " Household") {
		return customer.KindPERSON
	}
	return customer.KindCOMPANY
}
