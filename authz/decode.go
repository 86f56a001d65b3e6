package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Decode reads a plugin's configuration. A field that T does not have is refused by name, since a misspelt limit
// would otherwise be no limit; what T.Validate says, where there is one, is the last word.
func Decode[T any](config json.RawMessage) (T, error) {
	var v, zero T
	if len(config) == 0 {
		config = json.RawMessage("{}")
	}
	d := json.NewDecoder(bytes.NewReader(config))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return zero, fmt.Errorf("config: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return zero, errors.New("config: more than one value")
	}
	if c, ok := any(&v).(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			return zero, fmt.Errorf("config: %w", err)
		}
	}
	return v, nil
}
