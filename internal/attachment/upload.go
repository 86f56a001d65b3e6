package attachment

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/rest"
)

const (
	// uploadTime is how long a client may take to send a file. It is shorter than
	// bytes are kept that nothing refers to.
	uploadTime = record.UploadTime / 2
	// maxForm is what a form may have beside the file, in bytes.
	maxForm = 64 << 10
	// maxField is many times what an id takes, in bytes.
	maxField = 256
	// fileField is the form's field with the file.
	fileField = "file"
)

// upload makes an attachment of a form: the file, and the id of the record it
// belongs to, in any order.
func (h *handler) upload(w http.ResponseWriter, r *http.Request) (err error) {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || parameters["boundary"] == "" {
		return rest.ErrMediaType
	}
	if r.ContentLength > h.MaxUpload+maxForm {
		return h.tooLarge()
	}
	if err := http.NewResponseController(w).SetReadDeadline(h.Now().Add(uploadTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("letting the client take its time: %w", err)
	}
	f := &form{handler: h, values: record.Values{}}
	defer func() {
		if err != nil && f.file != nil {
			err = errors.Join(err, h.Records.Forsake(r.Context(), f.file))
		}
	}()
	if err := f.read(r, multipart.NewReader(http.MaxBytesReader(w, r.Body, h.MaxUpload+maxForm), parameters["boundary"])); err != nil {
		return err
	}
	if f.file == nil {
		return record.Refuse(lifecycle.BadUserInput, "is required", fileField)
	}
	f.file.Values = f.values
	created, refusals, err := h.Records.Attach(r.Context(), []*record.File{f.file})
	if err == nil {
		err = refusals[0]
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", *record.DownloadURL(created[0]))
	h.rest.Write(w, r, http.StatusCreated, map[string]any{"attachment": described{
		ID: created[0].ID, Filename: shown(!hidesName(r.Context(), created[0]), created[0].Filename), MediaType: created[0].MediaType, Size: created[0].Size,
		SHA256: f.file.SHA256, Version: created[0].Version, DownloadURL: *record.DownloadURL(created[0]),
	}})
	return nil
}

// described is an attachment as the answer to its upload has it.
type described struct {
	ID          gid.ID  `json:"id"`
	Filename    *string `json:"filename"`
	MediaType   string  `json:"mediaType"`
	Size        int     `json:"size"`
	SHA256      string  `json:"sha256"`
	Version     int     `json:"version"`
	DownloadURL string  `json:"downloadURL"`
}

func shown(is bool, text string) *string {
	if !is {
		return nil
	}
	return &text
}

func (h *handler) tooLarge() error {
	return record.Refuse(lifecycle.Limit, fmt.Sprintf("a file has at most %d bytes", h.MaxUpload), fileField)
}

// form is a form that is being read.
type form struct {
	*handler

	values record.Values
	file   *record.File
}

func (f *form) read(r *http.Request, from *multipart.Reader) error {
	for {
		// Raw: a file is kept as it was sent.
		part, err := from.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return f.torn(err)
		}
		switch name := part.FormName(); {
		case name == fileField:
			err = f.readFile(r, part)
		case isOwner(name):
			err = f.readOwner(name, part)
		default:
			err = record.Refuse(lifecycle.BadUserInput, "there is no such field", strings.ToValidUTF8(name[:min(len(name), maxField)], ""))
		}
		if err != nil {
			return err
		}
	}
}

// isOwner reports whether a field names the record that an attachment belongs to.
func isOwner(name string) bool {
	return slices.ContainsFunc(ent.RecordTypeNamed(ent.TypeAttachment).Edges, func(e ent.RecordReference) bool {
		return e.Class == lifecycle.Owned && e.GraphQL == name
	})
}

func (f *form) readOwner(name string, part *multipart.Part) error {
	text, err := io.ReadAll(io.LimitReader(part, maxField))
	if err != nil {
		return f.torn(err)
	}
	if _, twice := f.values[name]; twice {
		return record.Refuse(lifecycle.BadUserInput, "is given twice", name)
	}
	if len(text) == 0 { // as a form has it of which one field is filled in
		return nil
	}
	id, err := gid.Parse(string(text))
	if err != nil {
		return record.Refuse(lifecycle.BadUserInput, "is not an id", name)
	}
	f.values[name] = id
	return nil
}

func (f *form) readFile(r *http.Request, part *multipart.Part) error {
	if f.file != nil {
		return record.Refuse(lifecycle.BadUserInput, "is given twice", fileField)
	}
	name := part.FileName()
	if name == "" {
		return record.Refuse(lifecycle.BadUserInput, "a file has a name", fileField)
	}
	f.values["filename"] = name
	if kind := strings.TrimSpace(part.Header.Get("Content-Type")); kind != "" {
		f.values["mediaType"] = kind
	}
	content := &limited{from: part, left: f.MaxUpload}
	var err error
	f.file, err = f.Records.Receive(r.Context(), content)
	if content.err != nil {
		return f.torn(content.err)
	}
	return err
}

// torn is what a client is told whose form cannot be read to its end.
func (f *form) torn(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) || errors.Is(err, errLarge) {
		return f.tooLarge()
	}
	return record.Refuse(lifecycle.BadUserInput, "the form cannot be read to its end")
}

var errLarge = errors.New("attachment: the file is too large")

// limited reads so many bytes, and fails where there are more. It remembers why
// it failed.
type limited struct {
	from io.Reader
	left int64
	err  error
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	if l.left -= int64(n); l.left < 0 {
		err = errLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}
