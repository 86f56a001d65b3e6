package export

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql"
	"filippo.io/age"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// covered is a record that is in an export, and what it says there.
type covered struct {
	id      gid.ID
	version int
	content []byte
}

// under is an export under way.
type under struct {
	*Service
	id      gid.ID
	actor   *actor.Actor
	spec    Spec
	typ     *ent.RecordType
	columns []column
	rows    *access.Rows

	manifest Manifest
	digest   digest
	// page is told of the records of each page, outside of the snapshot.
	page func(rows []covered) error
}

// begin judges what the actor may export now.
func (s *Service) begin(ctx context.Context, id gid.ID, a *actor.Actor, spec Spec) (context.Context, *under, error) {
	ctx, rows, err := s.reads(actor.With(ctx, a), a)
	if err != nil {
		return ctx, nil, err
	}
	if err := s.allowed(ctx, a, &spec, rows); err != nil {
		return ctx, nil, err
	}
	t := ent.RecordTypeNamed(spec.Type)
	u := &under{Service: s, id: id, actor: a, spec: spec, typ: t, columns: columnsOf(t), rows: rows, digest: newDigest()}
	u.manifest = Manifest{
		Version: manifestVersion, Export: id, Tenant: a.TenantName, TenantID: a.Tenant, UserID: a.User, Reason: spec.Reason, Type: spec.Type,
		States: spec.States, Format: spec.Format, EncryptedTo: spec.EncryptTo, Columns: names(u.columns), Masked: map[string]int{}, Cut: map[string]int{},
		PolicyVersion: s.Control.Version(ctx, a.Tenant), CreatedAt: s.DB.Now(),
	}
	if spec.Filter != nil {
		u.manifest.Filter = spec.Filter.Text
	}
	emails, err := s.emails(ctx, s.DB, a.Tenant, []gid.ID{a.User})
	u.manifest.RequestedBy = emails[a.User]
	return ctx, u, err
}

// writeTo writes the file, and completes the manifest.
func (u *under) writeTo(ctx context.Context, to io.Writer) error {
	recipients, err := u.spec.recipients()
	if err != nil {
		return err
	}
	outer := newMeter(to)
	var sealed io.WriteCloser = nopCloser{outer}
	if len(recipients) > 0 {
		if sealed, err = age.Encrypt(outer, recipients...); err != nil {
			return fmt.Errorf("encrypting: %w", err)
		}
	}
	plain := newMeter(sealed)
	buffered := bufio.NewWriterSize(plain, 64<<10)
	w, err := newWriter(u.spec.Format, buffered, u.columns)
	if err != nil {
		return err
	}
	err = u.DB.Snapshot(ctx, func(inside context.Context, tx *store.Tx) error { return u.read(inside, tx, w) })
	if closed := w.close(); err == nil { // a workbook has a temporary file
		err = closed
	}
	if err != nil {
		return err
	}
	if err := errors.Join(buffered.Flush(), sealed.Close()); err != nil {
		return fmt.Errorf("ending the file: %w", err)
	}
	m := &u.manifest
	m.Bytes, m.SHA256, m.PlainBytes, m.PlainSHA256, m.RecordsSHA256 = outer.n, outer.sum(), plain.n, plain.sum(), u.digest.sum()
	m.Complete = u.complete()
	return nil
}

func (u *under) complete() bool { return len(u.manifest.Masked) == 0 && len(u.manifest.Cut) == 0 }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// read reads page by page, by id, so that what is held is bounded.
func (u *under) read(ctx context.Context, tx *store.Tx, w writer) error {
	states := make([]any, len(u.spec.States))
	for i, state := range u.spec.States {
		states[i] = string(state)
	}
	var last gid.ID
	for {
		rows, err := u.Records.Records(ctx, u.typ.Name, last, u.pageRows, func(s *sql.Selector) {
			s.Where(sql.In(s.C("state"), states...))
			if u.spec.Filter != nil {
				u.spec.Filter.Where(s)
			}
			u.rows.WhereMay(s, u.typ.Name, authz.Export)
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		last = rows[len(rows)-1].RecordID()
		if err := u.writePage(ctx, tx, w, rows); err != nil {
			return err
		}
		if len(rows) < u.pageRows {
			return nil
		}
	}
}

func (u *under) writePage(ctx context.Context, tx *store.Tx, w writer, rows []ent.Record) error {
	contents, err := u.Records.ContentsOf(ctx, tx, u.actor.Tenant, rows)
	if err != nil {
		return err
	}
	refs, err := u.references(ctx, tx, rows)
	if err != nil {
		return err
	}
	files, err := u.files(ctx, rows)
	if err != nil {
		return err
	}
	mask := visible.MaskOf(ctx, u.typ.Name)
	in := make([]covered, 0, len(rows))
	for _, row := range rows {
		var hidden map[string]bool
		if mask != nil {
			hidden = mask.Hidden(row.Column)
		}
		cells := make([]any, len(u.columns))
		for i, c := range u.columns {
			if c.field != "" && hidden[c.field] {
				u.manifest.Masked[c.name]++
				continue
			}
			cell, masked, err := u.cell(row, c, contents[row.RecordID()], refs, files)
			if err != nil {
				return err
			}
			if masked {
				u.manifest.Masked[c.name]++
			}
			cells[i] = cell
		}
		cut, err := w.write(cells)
		if err != nil {
			return err
		}
		for _, i := range cut {
			u.manifest.Cut[u.columns[i].name]++
		}
		u.manifest.Rows++
		u.digest.add(row.RecordID(), row.RecordVersion())
		in = append(in, covered{row.RecordID(), row.RecordVersion(), contents[row.RecordID()].Hash})
	}
	if !u.complete() {
		in = nil // it stands for nothing
	}
	return u.page(in)
}

// cell is what stands in a column, and whether that is nothing because the requester
// may not read it.
func (u *under) cell(row ent.Record, c column, content record.Content, refs references, files map[gid.ID]fileNames) (cell any, masked bool, err error) {
	switch {
	case c.name == attachments:
		names := files[row.RecordID()]
		if len(names.list) == 0 {
			return nil, names.masked, nil
		}
		text, err := encode(names.list)
		return text, names.masked, err
	case c.part != "":
		if len(content.Parts[c.part]) == 0 {
			return nil, false, nil
		}
		text, err := encode(content.Parts[c.part])
		return text, false, err
	case c.target != "":
		id, ok := row.Column(c.from).(gid.ID)
		if !ok {
			return nil, false, nil
		}
		to, seen := refs[id]
		switch {
		case c.shows == "" && (seen || c.target == ent.TypeUser || c.target == ent.TypeTeam):
			return id.String(), false, nil
		case !seen || to.values[c.shows] == "":
			// A reference to what he may not see is nothing to him, as in the API. What
			// is beside it is for people, and no part of the record.
			return nil, c.shows == "" && !seen, nil
		}
		return to.values[c.shows], false, nil
	}
	switch v := row.Column(c.from).(type) {
	case nil:
		return nil, false, nil
	case string:
		return v, false, nil
	case int:
		return int64(v), false, nil
	case int64, float64, bool, time.Time:
		return v, false, nil
	case gid.ID:
		return v.String(), false, nil
	case lifecycle.State:
		return string(v), false, nil
	case fmt.Stringer: // an enum
		return v.String(), false, nil
	default:
		return nil, false, fmt.Errorf("export: %s is a %T", c.name, v)
	}
}

func encode(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding a cell: %w", err)
	}
	return string(text), nil
}

// reference is what the requester may see of what a record points to.
type reference struct{ values map[string]string }

type references map[gid.ID]reference

// references reads what records point to, one statement for each type.
func (u *under) references(ctx context.Context, tx *store.Tx, rows []ent.Record) (references, error) {
	ids := map[string][]gid.ID{}
	asked := references{}
	for _, row := range rows {
		for _, c := range u.columns {
			id, ok := row.Column(c.from).(gid.ID)
			if _, twice := asked[id]; c.target == "" || !ok || twice {
				continue
			}
			asked[id] = reference{}
			ids[c.target] = append(ids[c.target], id)
		}
	}
	out := references{}
	for typ, ids := range ids {
		if typ == ent.TypeUser {
			emails, err := u.emails(ctx, tx, u.actor.Tenant, ids)
			if err != nil {
				return nil, err
			}
			for id, email := range emails {
				out[id] = reference{map[string]string{"email": email}}
			}
			continue
		}
		if ent.RecordTypeNamed(typ) == nil {
			continue
		}
		mask := visible.MaskOf(ctx, typ)
		columns := append([]string{"id"}, visible.MaskColumns(ctx, typ)...)
		for _, k := range known[typ] {
			columns = append(columns, k.column)
		}
		found, err := u.Records.Client(ctx).CollectRecords(ctx, typ, nil, columns, func(s *sql.Selector) { s.Where(record.Among(s.C("id"), ids)) })
		if err != nil {
			return nil, fmt.Errorf("reading what records point to: %w", err)
		}
		for _, to := range found {
			var hidden map[string]bool
			if mask != nil {
				hidden = mask.Hidden(to.Column)
			}
			ref := reference{map[string]string{}}
			for _, k := range known[typ] {
				if text, ok := to.Column(k.column).(string); ok && !hidden[k.column] { // of one word, and so the same in the API
					ref.values[k.column] = text
				}
			}
			out[to.RecordID()] = ref
		}
	}
	return out, nil
}

func (s *Service) emails(ctx context.Context, q store.Querier, tenant gid.ID, ids []gid.ID) (map[gid.ID]string, error) {
	out := map[gid.ID]string{}
	err := store.Build(q).Add(`SELECT id, email FROM users WHERE tenant_id = ? AND `, tenant).IDs("id", ids).Query(ctx, q, func(row store.Row) error {
		var id gid.ID
		var email string
		err := row.Scan(&id, &email)
		out[id] = email
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading users: %w", err)
	}
	return out, nil
}

// fileNames are those of the files of a record, as far as they are shown.
type fileNames struct {
	list   []string
	masked bool
}

// files reads the names of the live files that belong to records.
func (u *under) files(ctx context.Context, rows []ent.Record) (map[gid.ID]fileNames, error) {
	edge := attachmentEdge(u.typ)
	if edge == "" {
		return nil, nil
	}
	ids := make([]gid.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.RecordID()
	}
	mask := visible.MaskOf(ctx, ent.TypeAttachment)
	columns := append([]string{"id", "filename", edge}, visible.MaskColumns(ctx, ent.TypeAttachment)...)
	found, err := u.Records.Client(ctx).CollectRecords(ctx, ent.TypeAttachment, nil, columns, func(s *sql.Selector) {
		s.Where(sql.IsNull(s.C("retired_at"))).Where(record.Among(s.C(edge), ids)).OrderBy(s.C("id"))
	})
	if err != nil {
		return nil, fmt.Errorf("reading the names of files: %w", err)
	}
	out := map[gid.ID]fileNames{}
	for _, file := range found {
		of, _ := file.Column(edge).(gid.ID)
		names := out[of]
		if name, ok := file.Column("filename").(string); ok && (mask == nil || !mask.Hidden(file.Column)["filename"]) {
			names.list = append(names.list, name)
		} else {
			names.masked = true
		}
		out[of] = names
	}
	return out, nil
}

// specOf reads what was to be exported, as it was kept.
func specOf(typ string, filter *string, states, encryptTo []string, format, reason string) (Spec, error) {
	spec := Spec{Type: typ, Format: Format(format), EncryptTo: slices.Clone(encryptTo), Reason: reason}
	for _, state := range states {
		spec.States = append(spec.States, lifecycle.State(state))
	}
	if filter != nil {
		var err error
		if spec.Filter, err = record.ParseFilter(typ, []byte(*filter)); err != nil {
			return spec, err
		}
	}
	return spec, spec.check()
}
