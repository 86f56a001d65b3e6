package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// manifestVersion is that of the form of manifests.
const manifestVersion = 1

// Manifest says what a file is, and what is in it.
type Manifest struct {
	Version     int               `json:"version"`
	Export      gid.ID            `json:"export"`
	Tenant      string            `json:"tenant"`
	TenantID    gid.ID            `json:"tenantID"`
	RequestedBy string            `json:"requestedBy"` // the address of the user
	UserID      gid.ID            `json:"userID"`
	Reason      string            `json:"reason,omitempty"`
	Type        string            `json:"type"`
	Filter      json.RawMessage   `json:"filter,omitempty"`
	States      []lifecycle.State `json:"states"`
	Format      Format            `json:"format"`
	EncryptedTo []string          `json:"encryptedTo,omitempty"`
	Columns     []string          `json:"columns"`
	// Masked counts, by column, the values that were left out because the requester
	// may not read them, and Cut those of which a cell of a workbook held not all.
	Masked map[string]int `json:"masked"`
	Cut    map[string]int `json:"cut"`
	// Complete says that nothing was masked or cut: the file stands for the records.
	Complete bool `json:"complete"`
	Rows     int  `json:"rows"`
	// Bytes and SHA256 are of the file, and those of Plain of what it holds once
	// decrypted: the same where it is not encrypted.
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"`
	PlainBytes  int64  `json:"plainBytes"`
	PlainSHA256 string `json:"plainSHA256"`
	// RecordsSHA256 is over a line for each record, sorted: id, a space, its version
	// and a line end.
	RecordsSHA256 string    `json:"recordsSHA256"`
	PolicyVersion uint64    `json:"policyVersion"`
	CreatedAt     time.Time `json:"createdAt"`
}

// encode answers the manifest as it is kept, and its hash.
func (m *Manifest) encode() (text []byte, sum string, err error) {
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, "", fmt.Errorf("encoding a manifest: %w", err)
	}
	text = append(text, '\n')
	digest := sha256.Sum256(text)
	return text, hex.EncodeToString(digest[:]), nil
}

// meter passes on what is written, and knows how much and what that was.
type meter struct {
	to   io.Writer
	n    int64
	hash hash.Hash
}

func newMeter(to io.Writer) *meter { return &meter{to: to, hash: sha256.New()} }

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.to.Write(p)
	m.n += int64(n)
	m.hash.Write(p[:n])
	return n, err
}

func (m *meter) sum() string { return hex.EncodeToString(m.hash.Sum(nil)) }

// digest is that over the records, which come by id.
type digest struct{ hash hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) add(id gid.ID, version int) {
	d.hash.Write(append(strconv.AppendInt(append(id.Append(nil), ' '), int64(version), 10), '\n'))
}

func (d digest) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }
