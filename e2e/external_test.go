package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatOthersMakeOfIt has programs that are not ours read what we write and use what we serve. LETHE_EXTERNAL names those
// that have to be there; the others are left out, because they are no part of what a test needs. `make external` names those
// for files, and `make clients` the clients.
func TestWhatOthersMakeOfIt(t *testing.T) {
	t.Parallel()
	wanted := strings.Split(os.Getenv("LETHE_EXTERNAL"), ",")
	for _, tool := range []struct {
		name     string
		commands []string
		install  string
		test     func(t *testing.T)
	}{
		{"age", []string{"age", "age-keygen"}, "apt-get install age", inOffice(ageOpensExports)},
		{"standardwebhooks", []string{"node", "npm"}, "apt-get install nodejs npm", inOffice(standardWebhooksVerifiesDeliveries)},
		{"libreoffice", []string{"soffice"}, "apt-get install libreoffice-calc-nogui", inOffice(libreOfficeReadsWorkbooks)},
		{"clients", []string{"node", "npm", "curl", "jq"}, "apt-get install nodejs npm curl jq", clientsShowWhatTheyShow},
	} {
		t.Run(tool.name, func(t *testing.T) {
			if !slices.Contains(wanted, tool.name) {
				t.Skip("LETHE_EXTERNAL does not name it: make external, make clients")
			}
			t.Parallel()
			for _, name := range tool.commands {
				_, err := exec.LookPath(name)
				require.NoError(t, err, tool.install)
			}
			tool.test(t)
		})
	}
}

func inOffice(test func(o *office)) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		test(newOffice(t, databases["sqlite"], "LETHE_ALLOW_PRIVATE_WEBHOOKS=true"))
	}
}

// foreign runs a command of others, and answers what it prints.
func (o *office) foreign(name string, args ...string) string {
	o.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(o.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	require.NoError(o, cmd.Run(), "%s %v: %s", name, args, &stderr)
	return out.String()
}

// ageOpensExports encrypts exports, by the command line and by the server, and opens them with age itself.
func ageOpensExports(o *office) {
	o.Helper()
	o.importing("calls", o.plain("calls"))
	keys, others := filepath.Join(o.dir, "key.txt"), filepath.Join(o.dir, "other.txt")
	o.foreign("age-keygen", "-o", keys)
	o.foreign("age-keygen", "-o", others)
	recipient := strings.TrimSpace(o.foreign("age-keygen", "-y", keys))
	local := filepath.Join(o.dir, "local.csv.age")
	o.lethe("export", "--as", "calls", "--format", "csv", "--encrypt-to", recipient, local)
	served, _ := o.exported(fmt.Sprintf(`type: CALL, format: CSV, encryptTo: [%q]`, recipient), "served.csv.age")
	for _, path := range []string{local, served} {
		text, err := os.ReadFile(path + ".manifest.json")
		require.NoError(o, err)
		var manifest struct{ SHA256, PlainSHA256 string }
		require.NoError(o, json.Unmarshal(text, &manifest))
		require.Equal(o, manifest.SHA256, sumOf(o.T, path))
		plain := strings.TrimSuffix(path, ".age")
		o.foreign("age", "--decrypt", "-i", keys, "-o", plain, path)
		require.Equal(o, manifest.PlainSHA256, sumOf(o.T, plain))
		require.Len(o, rowsOf(o.T, plain), realCalls)
		require.Error(o, exec.CommandContext(o.Context(), "age", "--decrypt", "-i", others, path).Run(), "another key opens nothing")
	}
	o.Logf("%s opened two exports of %d calls", strings.TrimSpace(o.foreign("age", "--version")), realCalls)
}

var documentedReceiver = regexp.MustCompile("(?s)```js\n(.*?)```")

// standardWebhooksVerifiesDeliveries runs the receiver of docs/webhooks.md, with the library it names.
func standardWebhooksVerifiesDeliveries(o *office) {
	o.Helper()
	page, err := os.ReadFile("../docs/webhooks.md")
	require.NoError(o, err)
	code := string(documentedReceiver.FindSubmatch(page)[1])
	library := regexp.MustCompile(`npm install (standardwebhooks@[\d.]+)`).FindStringSubmatch(code)[1]
	o.foreign("npm", "install", "--prefix", o.dir, "--no-audit", "--no-fund", "--ignore-scripts", library)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(o, err)
	address := free.Addr().String()
	require.NoError(o, free.Close())
	_, port, err := net.SplitHostPort(address)
	require.NoError(o, err)
	require.Contains(o, code, "listen(8104)")
	script := filepath.Join(o.dir, "receiver.mjs")
	require.NoError(o, os.WriteFile(script, []byte(strings.Replace(code, "listen(8104)", "listen("+port+")", 1)), 0o600))

	var made struct {
		CreateWebhook struct {
			Secret  string
			Webhook struct{ ID string }
		}
	}
	o.ask(fmt.Sprintf(`mutation { createWebhook(input: {url: "http://%s/hook", kinds: [DELETED]}) { secret webhook { id } } }`, address), &made)
	out := &safeBuffer{}
	node := exec.CommandContext(o.Context(), "node", script)
	node.Env, node.Dir, node.Stdout, node.Stderr = append(os.Environ(), "SECRET="+made.CreateWebhook.Secret), o.dir, out, out
	require.NoError(o, node.Start())
	o.Cleanup(func() { _ = node.Wait() })
	forged := func() int {
		req, err := http.NewRequestWithContext(o.Context(), http.MethodPost, "http://"+address, strings.NewReader(`{"type": "record.deleted"}`))
		require.NoError(o, err)
		req.Header.Set("Webhook-Id", "msg_forged")
		req.Header.Set("Webhook-Timestamp", fmt.Sprint(time.Now().Unix()))
		req.Header.Set("Webhook-Signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0 // not yet there
		}
		require.NoError(o, resp.Body.Close())
		return resp.StatusCode
	}
	require.Eventually(o, func() bool { return forged() == http.StatusBadRequest }, 10*time.Second, 20*time.Millisecond, out)

	var created struct {
		CreateCustomer struct{ Customer struct{ ID string } }
	}
	o.ask(`mutation { createCustomer(input: {name: "Told"}) { customer { id } } }`, &created)
	var ignored map[string]any
	o.ask(fmt.Sprintf(`mutation { testWebhook(id: %q) { delivery { id } } }`, made.CreateWebhook.Webhook.ID), &ignored)
	o.ask(fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}}) { operation { id } } }`, created.CreateCustomer.Customer.ID), &ignored)
	type delivery struct {
		EventType, Status string
		StatusCode        int
	}
	var got struct{ WebhookDeliveries struct{ Nodes []delivery } }
	require.Eventually(o, func() bool {
		o.ask(`{ webhookDeliveries(first: 10) { nodes { eventType status statusCode } } }`, &got)
		return strings.Contains(out.String(), "record.deleted") && !slices.ContainsFunc(got.WebhookDeliveries.Nodes, func(d delivery) bool { return d.StatusCode == 0 })
	}, 30*time.Second, 50*time.Millisecond, "%v\n%s", got, out)
	require.ElementsMatch(o, []delivery{{"webhook.test", "DELIVERED", http.StatusNoContent}, {"record.deleted", "DELIVERED", http.StatusNoContent}}, got.WebhookDeliveries.Nodes)
	require.NotContains(o, out.String(), "forged")
	o.Logf("%s verified:\n%s", library, out)
}

// libreOfficeReadsWorkbooks has LibreOffice write as CSV what we wrote as a workbook, and compares both with our CSV.
func libreOfficeReadsWorkbooks(o *office) {
	o.Helper()
	o.importing("customers", o.plain("customers"))
	o.importing("calls", o.plain("calls"))
	o.importing("messages", "../internal/mail/testdata/eml")
	for as, count := range map[string]int{"customers": realCustomers, "calls": realCalls, "messages": realMails - 1} {
		ours, book := filepath.Join(o.dir, as+"-ours.csv"), filepath.Join(o.dir, as+".xlsx")
		o.lethe("export", "--as", as, ours)
		o.lethe("export", "--as", as, book)
		to := filepath.Join(o.dir, "converted")
		// Commas, double quotes, UTF-8, from the first row on; cells as they are, not as they are shown.
		o.foreign("soffice", "-env:UserInstallation=file://"+filepath.Join(o.dir, "profile"), "--headless", "--convert-to",
			"csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false", "--outdir", to, book)
		file, err := os.Open(filepath.Join(to, as+".csv"))
		require.NoError(o, err)
		defer file.Close()
		theirs, err := csv.NewReader(file).ReadAll()
		require.NoError(o, err)
		rows := rowsOf(o.T, ours)
		require.Len(o, rows, count)
		require.Len(o, theirs, count+1)
		for i, row := range rows {
			read := map[string]string{}
			for j, value := range theirs[i+1] {
				if value != "" {
					read[theirs[0][j]] = value
				}
			}
			require.Equal(o, row, read, "%s, row %d", as, i+1)
		}
		require.Equal(o, imported{Read: count, Duplicate: count}, o.importing(as, filepath.Join(to, as+".csv")), "what LibreOffice wrote is known again")
	}
	o.Logf("%s read three workbooks", strings.TrimSpace(o.foreign("soffice", "--version")))
}

// clientsShowWhatTheyShow runs the scripts of docs/clients, each of which ends in an error where something is not as it says,
// against the demo.
func clientsShowWhatTheyShow(t *testing.T) {
	t.Helper()
	const folder = "../docs/clients"
	_, err := os.Stat(filepath.Join(folder, "node_modules"))
	require.NoError(t, err, "npm ci --prefix docs/clients")
	text, err := os.ReadFile(filepath.Join(folder, "package.json"))
	require.NoError(t, err)
	var listed struct{ Scripts map[string]string }
	require.NoError(t, json.Unmarshal(text, &listed))
	require.NotEmpty(t, listed.Scripts)

	dir := t.TempDir()
	env := append(os.Environ(), "LETHE_DATABASE=", "LETHE_DATA="+filepath.Join(dir, "data"), "LETHE_KEY="+key)
	s, err := start(env, dir, "--demo")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.end()) })
	token, err := command(env, "token", "create", "--tenant", "demo", "--user", "manager@demo.example").Output()
	require.NoError(t, err)
	env = append(os.Environ(), "LETHE_URL="+s.url, "LETHE_TOKEN="+strings.TrimSpace(string(token)))
	generated := filepath.Join(folder, "genqlient", "generated.go")
	before, err := os.ReadFile(generated)
	require.NoError(t, err)
	for name := range listed.Scripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "npm", "run", "--silent", name)
			cmd.Dir, cmd.Env = folder, env
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
			if name == "genqlient" {
				after, err := os.ReadFile(generated)
				require.NoError(t, err)
				require.Equal(t, string(before), string(after), "what is committed is what the contract makes of it")
			}
		})
	}
}
