package lifecycle

// The annotations below are read by the templates in ent/template. They satisfy
// ent's schema.Annotation by their Name method alone.

// Record marks a schema as a record type: mixin.Record adds it.
type Record struct {
	// Type is the number in the last byte of the type's ids (package gid).
	Type uint8
	// Label are the fields by which people know a record of the type.
	Label []string
	// Numbered says that the field "number" is taken from the tenant's counter.
	Numbered bool
	// Uniques are the fields no two live records of a tenant may share.
	Uniques []Unique
	// Activity is the field that says when a communication took place. The
	// customer that owns the record keeps the time of the newest live one.
	Activity string
	// OneOwner says that a record has exactly one of its owners while it lives.
	OneOwner bool
	// Alike are the columns by which an import takes a row that has no unique
	// value for a record that is there already. The first one is looked up.
	Alike []string
}

// Name implements ent's schema.Annotation.
func (Record) Name() string { return "LetheRecord" }

// Unique is a field that no two live records of a tenant share.
type Unique struct {
	// Field is the field users see; its folded value is kept in Field + "_key".
	Field string
	// Fold says how values are folded before they are compared.
	Fold Fold
	// Within narrows the uniqueness to rows that share this column.
	Within string
}

// Fold names a way to fold a value before comparing it.
type Fold string

// The foldings.
const (
	// FoldText is NFKC and lower case.
	FoldText Fold = "text"
	// FoldEmail is FoldText with the domain in its ASCII form (IDNA).
	FoldEmail Fold = "email"
	// FoldDomain is a host name in its ASCII form (IDNA).
	FoldDomain Fold = "domain"
	// FoldNone compares values as they are, as message ids want it.
	FoldNone Fold = "none"
)

// Part marks an edge to rows that are part of a record and no records
// themselves, such as the recipients of a message. Purge removes them.
type Part struct{}

// Name implements ent's schema.Annotation.
func (Part) Name() string { return "LethePart" }

// Sensitive marks a field that holds personal data: nullable in the API so that
// it can be masked, and sealed in the audit log.
type Sensitive struct{}

// Name implements ent's schema.Annotation.
func (Sensitive) Name() string { return "LetheSensitive" }

// Searched marks a text field, or a part, by whose words records are found.
type Searched struct {
	// As is the letter, a to z, that tells the field from others of its type in the
	// index of words. It is part of stored data: never change or reuse one.
	As string
}

// Name implements ent's schema.Annotation.
func (Searched) Name() string { return "LetheSearched" }

// ReadOnly marks a field of a record type that no input sets.
type ReadOnly struct{}

// Name implements ent's schema.Annotation.
func (ReadOnly) Name() string { return "LetheReadOnly" }

// Named marks a reference that users must give, although rows may lose it: a
// contact is somebody's contact until its customer is purged.
type Named struct{}

// Name implements ent's schema.Annotation.
func (Named) Name() string { return "LetheNamed" }
