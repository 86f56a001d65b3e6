// Command genqlient uses Lethe from Go, through functions that genqlient has written
// from operations.graphql and the contract.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/Khan/genqlient/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

//go:generate go tool genqlient

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	endpoint, token := os.Getenv("LETHE_URL"), os.Getenv("LETHE_TOKEN")
	if endpoint == "" {
		endpoint = "http://127.0.0.1:8080"
	}
	if err := example(ctx, endpoint+"/graphql", token); err != nil {
		log.Fatal(err)
	}
}

// bearer sends the token with each request.
type bearer string

func (b bearer) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultClient.Do(r)
}

// code is the first code of an error of the server, empty for other errors.
func code(err error) string {
	var list gqlerror.List
	if !errors.As(err, &list) || len(list) == 0 {
		return ""
	}
	text, _ := list[0].Extensions["code"].(string)
	return text
}

func example(ctx context.Context, endpoint, token string) error {
	client := graphql.NewClient(endpoint, bearer(token))

	// Mutations. A name that is new, so that the list below is known.
	name := "genqlient " + rand.Text()
	var id string
	for i := range 3 {
		created, err := Create(ctx, client, fmt.Sprint(name, " ", i+1))
		if err != nil {
			return fmt.Errorf("creating: %w", err)
		}
		id = created.CreateCustomer.Customer.Id
	}

	// A query, page by page.
	var pages []string
	for after, more := (*string)(nil), true; more; {
		page, err := Customers(ctx, client, name, after)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		var names []string
		for _, customer := range page.Customers.Nodes {
			if customer.Name != nil { // null where the policy hides the field
				names = append(names, strings.TrimPrefix(*customer.Name, name+" "))
			}
		}
		pages = append(pages, strings.Join(names, ", "))
		after, more = page.Customers.PageInfo.EndCursor, page.Customers.PageInfo.HasNextPage
	}
	if err := is("query and pages", strings.Join(pages, "; "), "1, 2; 3"); err != nil {
		return err
	}

	// A subscription. Until it is heard, for nothing tells when it has begun.
	events, connection := make(chan *ChangedRecordChangedRecordEvent, 100), &dialer{}
	go listen(ctx, connection, endpoint, token, id, events)
	version := 1
	hear := func() error {
		for {
			renamed, err := Rename(ctx, client, id, version, fmt.Sprint(name, " heard ", version))
			if err != nil {
				return fmt.Errorf("renaming: %w", err)
			}
			version = renamed.UpdateCustomer.Customer.Version
			select {
			case event := <-events:
				return is("subscription", event.Action, RecordChangeUpdate)
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	if err := hear(); err != nil {
		return err
	}
	// Reconnecting: what came before is not heard twice, so all that comes now comes over another connection.
	connection.cut()
	for len(events) > 0 {
		<-events
	}
	if err := hear(); err != nil {
		return fmt.Errorf("after the connection was cut: %w", err)
	}

	// Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
	ids := []string{id}
	deleted, err := Delete(ctx, client, ids, &name)
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	again, err := Delete(ctx, client, ids, &name)
	if err != nil {
		return fmt.Errorf("deleting again: %w", err)
	}
	if err := is("deleted once, by the operation", again.DeleteRecords.Operation.Id, deleted.DeleteRecords.Operation.Id); err != nil {
		return err
	}
	// Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
	archived, err := Archive(ctx, client, ids)
	if err != nil {
		return fmt.Errorf("archiving: %w", err)
	}
	if err := is("refused item", *archived.ArchiveRecords.Operation.Items.Nodes[0].Code, CodeIllegalTransition); err != nil {
		return err
	}
	restored, err := Restore(ctx, client, ids)
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	if err := is("restored", restored.RestoreRecords.Operation.Status, OperationStatusSucceeded); err != nil {
		return err
	}
	// A request that may not be made at all is an error, with its code in the extensions.
	_, err = Purge(ctx, client, ids)
	return is("error", code(err), "FORBIDDEN")
}

// is insists on what is shown.
func is[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, not %v", what, got, want)
	}
	log.Printf("%s: %v", what, got)
	return nil
}

// listen hears of the changes of a record until the context ends. genqlient ends
// with its connection, so another is made; what happened meanwhile is lost, and an
// application reads again what it shows.
func listen(ctx context.Context, d *dialer, endpoint, token, id string, events chan<- *ChangedRecordChangedRecordEvent) {
	for ctx.Err() == nil {
		if err := listenOnce(ctx, d, endpoint, token, id, events); err != nil {
			log.Printf("connecting again: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func listenOnce(ctx context.Context, d *dialer, endpoint, token, id string, events chan<- *ChangedRecordChangedRecordEvent) error {
	socket := graphql.NewClientUsingWebSocket("ws"+strings.TrimPrefix(endpoint, "http"), d,
		graphql.WithConnectionParams(map[string]any{"Authorization": "Bearer " + token}))
	failed, err := socket.Start(ctx)
	if err != nil {
		return err
	}
	answers, _, err := Changed(ctx, socket, []string{id})
	if err != nil {
		return err
	}
	for {
		select {
		case answer, open := <-answers:
			if !open {
				return errors.New("the subscription has ended")
			}
			if answer.Errors != nil {
				return answer.Errors
			}
			events <- answer.Data.RecordChanged
		case err := <-failed:
			return err
		}
	}
}

// dialer opens sockets, and keeps the last one. A dialer of another library does as well; genqlient names the protocol.
type dialer struct {
	mu   sync.Mutex
	conn *websocket.Conn
}

func (d *dialer) DialContext(ctx context.Context, url string, header http.Header) (graphql.WSConn, error) {
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, url, header)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = conn
	return conn, nil
}

// cut ends the connection as a network does, without a word.
func (d *dialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.conn.NetConn().Close()
}
