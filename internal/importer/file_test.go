package importer_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// with is a mail with files, each "name=content".
func with(id string, files ...string) string {
	var b strings.Builder
	b.WriteString("Message-ID: <" + id + ">\r\nFrom: a@example.com\r\nTo: b@example.com\r\nDate: Sun, 1 Mar 2026 09:00:00 +0000\r\n" +
		"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nText\r\n")
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		b.WriteString("--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n\r\n" +
			base64.StdEncoding.EncodeToString([]byte(content)) + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

func (w *world) keys() []string {
	w.Helper()
	out := []string{}
	require.NoError(w, w.bucket.Keys(w.Context(), func(key string, _ int64) error { out = append(out, key); return nil }))
	return out
}

// filesOf are the attachments of the live message with an id, as "name=content", and checks that the bytes are what is said
// of them.
func (w *world) filesOf(id string) []string {
	w.Helper()
	ctx := visible.With(w.Context(), visible.Everything)
	list, err := w.svc.Client(ctx).Attachment.Query().All(ctx)
	require.NoError(w, err)
	message := w.message(id)
	out := []string{}
	for _, a := range list {
		if *a.MessageID != message.ID || a.RetiredAt != nil {
			continue
		}
		out = append(out, a.Filename+"="+w.content(a))
	}
	slices.Sort(out)
	return out
}

func (w *world) content(a *ent.Attachment) string {
	w.Helper()
	r, err := w.bucket.Open(w.Context(), blob.Key(w.tenant, a.ID))
	require.NoError(w, err)
	b, err := io.ReadAll(r)
	require.NoError(w, errors.Join(err, r.Close()))
	sum := sha256.Sum256(b)
	require.Equal(w, hex.EncodeToString(sum[:]), *a.Sha256)
	require.Equal(w, len(b), a.Size)
	return string(b)
}

// tidy checks, after a sweep, that there are no bytes but those of attachments.
func (w *world) tidy() {
	w.Helper()
	_, err := w.bucket.Sweep(w.Context(), w.db)
	require.NoError(w, err)
	ctx := visible.With(w.Context(), visible.Everything)
	n, err := w.svc.Client(ctx).Attachment.Query().Count(ctx)
	require.NoError(w, err)
	require.Len(w, w.keys(), n)
	require.Zero(w, w.count("blob_spares"))
}

func TestAttachmentsOfMailAreKept(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		config := importer.Config{As: importer.Messages, Path: w.write(map[string]string{
			"1.eml": with("one@x", "a.pdf=A", "b.pdf=B", "a.pdf=another A"),
			"2.eml": with("two@x", "a.pdf=A"),
			"3.eml": eml("three@x", "a@example.com", "b@example.com"),
			"4.eml": with("one@x", "a.pdf=A", "c.pdf=C"), // again, by a list that added a file
			"5.eml": strings.Replace(with("five@x", "d.pdf=D"), "a@example.com", "b@example.com\r\nIn-Reply-To: <two@x>", 1),
		})}
		pretended := config
		pretended.DryRun = true
		for _, c := range []importer.Config{pretended, config} {
			report := w.imported("admin", c)
			require.Equal(t, []int{5, 4, 1, 0, 0}, outcomes(report), "%+v", report.Items)
			require.Equal(t, 6, report.Attachments, "%+v", report)
			require.Equal(t, 1, report.AttachmentsAdded)
			require.Zero(t, report.AttachmentsFailed)
		}
		require.Equal(t, []string{"a.pdf=A", "a.pdf=another A", "b.pdf=B", "c.pdf=C"}, w.filesOf("one@x"))
		require.Equal(t, []string{"a.pdf=A"}, w.filesOf("two@x"))
		require.Equal(t, []string{"d.pdf=D"}, w.filesOf("five@x"))
		w.tidy()

		again := w.imported("admin", config)
		require.Equal(t, []int{5, 0, 5, 0, 0}, outcomes(again))
		require.Zero(t, again.Attachments)
		w.tidy()
	})
}

func TestImportingMailAgainAddsWhatItsTwinLacks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		files := map[string]string{}
		for _, id := range []string{"bare@x", "part@x", "deleted@x", "binned@x"} {
			files[id+".eml"] = with(id)
		}
		files["part@x.eml"], files["deleted@x.eml"] = with("part@x", "a.pdf=A"), with("deleted@x", "a.pdf=A")
		require.Equal(t, 2, w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(files)}).Attachments)
		ctx := visible.With(w.Context(), visible.Everything)
		list, err := w.svc.Client(ctx).Attachment.Query().All(ctx)
		require.NoError(t, err)
		for _, a := range list {
			if *a.MessageID == w.message("deleted@x").ID {
				w.retire(lifecycle.Delete, a.ID)
			}
		}
		w.retire(lifecycle.Delete, w.message("binned@x").ID)

		for id := range files {
			files[id] = with(strings.TrimSuffix(id, ".eml"), "a.pdf=A", "b.pdf=B")
		}
		path := w.write(files)
		report := w.imported("admin", importer.Config{As: importer.Messages, Path: path})
		require.Equal(t, []int{4, 0, 3, 1, 0}, outcomes(report))
		require.Equal(t, []int{4, 4, 0}, []int{report.Attachments, report.AttachmentsAdded, report.AttachmentsFailed})
		require.Equal(t, 2, find(t, report, "bare@x.eml", 0).Attachments)
		require.Zero(t, find(t, report, "binned@x.eml", 0).Attachments)
		require.Equal(t, []string{"a.pdf=A", "b.pdf=B"}, w.filesOf("bare@x"))
		require.Equal(t, []string{"a.pdf=A", "b.pdf=B"}, w.filesOf("part@x"))
		require.Equal(t, []string{"b.pdf=B"}, w.filesOf("deleted@x"), "what is in the bin stays there")
		w.tidy()

		// To a message that he cannot see nobody adds anything.
		for id := range files {
			files[id] = with(strings.TrimSuffix(id, ".eml"), "c.pdf=C")
		}
		_, err = w.svc.Update(w.as("admin"), w.message("part@x").ID, 1, map[string]any{"ownerID": w.users["agent"], "teamID": w.teams["Support"]})
		require.NoError(t, err)
		report = w.imported("manager", importer.Config{As: importer.Messages, Path: w.write(files)})
		require.Equal(t, []int{2, 2, 0}, []int{report.Attachments, report.AttachmentsAdded, report.AttachmentsFailed}, "%+v", report.Items)
		require.Equal(t, []string{"a.pdf=A", "b.pdf=B"}, w.filesOf("part@x"))
		w.tidy()
	})
}

func TestAttachmentsThatAreRefusedLeaveNoBytes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := store.Build(w.db).Add(`INSERT INTO policy_rules (id, tenant_id, position, ptype, v0, v1, v2, v3, v4, v5) VALUES (?, ?, 999, 'p', 'role:admin', ?, 'Attachment', 'create', 'deny', 'any')`,
			gid.New(gid.Policy), w.tenant, w.tenant.String()).Exec(w.Context(), w.db)
		require.NoError(t, err)
		require.NoError(t, w.control.Refresh(w.Context(), w.tenant))
		report := w.imported("admin", importer.Config{As: importer.Messages, Path: w.write(map[string]string{"1.eml": with("one@x", "a.pdf=A", "b.pdf=B")})})
		require.Equal(t, []int{1, 1, 0, 0, 0}, outcomes(report))
		require.Equal(t, []int{0, 0, 2}, []int{report.Attachments, report.AttachmentsAdded, report.AttachmentsFailed})
		require.Contains(t, strings.Join(find(t, report, "1.eml", 0).Warnings, "\n"), `the attachment "b.pdf" is not kept: FORBIDDEN`)
		require.Empty(t, w.filesOf("one@x"))
		w.tidy()
	})
}

func TestABatchOfFilesTakesABoundedNumberOfStatements(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		count := func(n int, start string) int64 {
			files := map[string]string{}
			for i := range n {
				files[fmt.Sprintf("%d.eml", i)] = with(fmt.Sprintf("%s%d@x", start, i), fmt.Sprintf("a.pdf=%d", i), "b.pdf=B")
			}
			path := w.write(files)
			before := w.statements.Load()
			require.Equal(t, 2*n, w.imported("admin", importer.Config{As: importer.Messages, Path: path}).Attachments)
			return w.statements.Load() - before
		}
		few, many := count(10, "few"), count(300, "many")
		w.Logf("statements: %d for 10 mails, %d for 300", few, many)
		require.LessOrEqual(t, many, few+6)
		w.tidy()
	})
}

func TestOfTwoMailsThatAreOneTheOneThatIsKeptHasTheFiles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := store.Build(w.db).Add(`INSERT INTO policy_rules (id, tenant_id, position, ptype, v0, v1, v2, v3, v4, v5) VALUES (?, ?, 999, 'p', 'role:admin', ?, 'Message', 'import', 'deny', 'category == SPAM')`,
			gid.New(gid.Policy), w.tenant, w.tenant.String()).Exec(w.Context(), w.db)
		require.NoError(t, err)
		require.NoError(t, w.control.Refresh(w.Context(), w.tenant))
		path := w.write(map[string]string{"1.eml": "X-Spam-Flag: YES\r\n" + with("one@x", "a.pdf=A"), "2.eml": with("one@x", "a.pdf=A", "b.pdf=B"), "3.eml": with("one@x", "b.pdf=B")})
		report := w.imported("admin", importer.Config{As: importer.Messages, Path: path})
		require.Equal(t, importer.Failed, find(t, report, "1.eml", 0).Outcome, "%+v", report.Items)
		require.Equal(t, []int{3, 1, 1, 0, 1}, outcomes(report), "%+v", report.Items)
		require.Equal(t, []int{2, 0}, []int{report.Attachments, report.AttachmentsFailed})
		require.Equal(t, []string{"a.pdf=A", "b.pdf=B"}, w.filesOf("one@x"))
		w.tidy()
	})
}
