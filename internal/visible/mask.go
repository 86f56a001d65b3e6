package visible

import "context"

// Mask says which fields of the rows of one entity are hidden from a reader.
type Mask interface {
	// Columns have to be read of a row to say which of its fields are hidden.
	Columns() []string
	// Hidden are the hidden fields of a row, by their names in the API; column reads one of its columns.
	Hidden(column func(name string) any) map[string]bool
	// Names are the fields that are hidden in some row.
	Names() map[string]bool
}

// Masker is implemented by Rows that hide fields of rows they show.
type Masker interface {
	// Mask is nil when nothing is hidden in rows of entity typ.
	Mask(typ string) Mask
}

// MaskOf is what is hidden from the reader in ctx in rows of entity typ; nil is nothing. What Lethe reads for
// itself is never masked, only what it shows: an audit event keeps all values.
func MaskOf(ctx context.Context, typ string) Mask {
	masker, ok := ctx.Value(key{}).(Masker)
	if !ok {
		return nil
	}
	return masker.Mask(typ)
}

// MaskColumns are the columns that MaskOf needs of rows of entity typ.
func MaskColumns(ctx context.Context, typ string) []string {
	if m := MaskOf(ctx, typ); m != nil {
		return m.Columns()
	}
	return nil
}
