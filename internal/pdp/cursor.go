package pdp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/lethe-crm/lethe/authz/authzen"
)

// cursor is where a search goes on. As a token it holds what it belongs to: with
// another request it would name a place in another list.
type cursor struct {
	Request []byte `json:"r"`
	Source  int    `json:"s"` // of the candidates
	After   string `json:"a"` // the last candidate that was decided on

	limit int
}

// cursorOf reads how much of a search is wanted, and from where on.
func cursorOf(body map[string]any) (cursor, error) {
	c := cursor{limit: defaultPage}
	request := maps.Clone(body)
	delete(request, "page")
	text, err := json.Marshal(request) // with sorted keys, so that it is the same each time
	if err != nil {
		return c, fmt.Errorf("encoding a request: %w", err)
	}
	sum := sha256.Sum256(text)
	c.Request = sum[:16]
	page, err := objectAt(body, "page")
	if err != nil {
		return c, err
	}
	switch limit := page["limit"].(type) {
	case nil:
	case int64:
		if limit < 1 {
			return c, malformed("page.limit is not positive")
		}
		c.limit = int(min(limit, maxPage))
	default:
		return c, malformed("page.limit is no number")
	}
	switch token := page["token"].(type) {
	case nil:
	case string:
		if token == "" {
			break // as an answer has it that was the last
		}
		given := cursor{}
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || json.Unmarshal(text, &given) != nil || given.Source < 0 || !bytes.Equal(given.Request, c.Request) {
			return c, malformed("page.token is none of this search")
		}
		c.Source, c.After = given.Source, given.After
	default:
		return c, malformed("page.token is no text")
	}
	return c, nil
}

// nothing is a page without results.
func (c cursor) nothing() found { return found{Results: []any{}} }

// end closes a page after which there may be more.
func (c cursor) end(f found) found {
	text, _ := json.Marshal(c) //nolint:errchkjson // bytes, a number and text can be encoded
	f.Page = page{NextToken: base64.RawURLEncoding.EncodeToString(text), Count: len(f.Results)}
	return f
}

// override is properties, and those that take their place where both have them.
func override(of, by map[string]any) map[string]any {
	if len(of) == 0 {
		return by
	}
	out := maps.Clone(of)
	maps.Copy(out, by)
	return out
}

// asWhole is the resource id that stands for a type of Lethe's as a whole.
const asWhole = authzen.TypeAsWhole
