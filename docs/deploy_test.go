package docs_test

import (
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// deployed are the files in deploy, by their paths within it.
func deployed(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"*", "kubernetes/*"} {
		paths, err := filepath.Glob("../deploy/" + pattern)
		require.NoError(t, err)
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			files[strings.TrimPrefix(filepath.ToSlash(path), "../deploy/")] = string(text)
		}
	}
	require.Len(t, files, 7)
	return files
}

func TestFilesOfDeploymentSetWhatThereIsToSet(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("configuration.md")
	require.NoError(t, err)
	guide, err := os.ReadFile("deployment.md")
	require.NoError(t, err)
	texts := deployed(t)
	texts["deployment.md"] = string(guide)
	for path, text := range texts {
		for _, name := range regexp.MustCompile(`LETHE_[A-Z_]+`).FindAllString(text, -1) {
			if !strings.Contains(string(page), "`"+name+"`") { // a failure need not show the page
				t.Errorf("%s: %s", path, name)
			}
		}
		for _, m := range regexp.MustCompile(`lethe((?: [a-z]+)+)[^a-z].*`).FindAllStringSubmatch(text, -1) {
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(m[0], -1) {
				if strings.Contains(string(page), "\n## lethe"+m[1]+"\n") {
					if !strings.Contains(string(page), "`"+flag) { // a failure need not show the page
						t.Errorf("%s: %s", path, m[0])
					}
				}
			}
		}
	}
	for _, command := range []string{"serve", "healthy", "migrate up", "migrate status", "backup", "check", "version", "token create", "token revoke", "migrate down"} {
		if !strings.Contains(string(page), "\n## lethe "+command+"\n") { // a failure need not show the page
			t.Errorf("lethe %s, of the files and of docs/deployment.md", command)
		}
	}
}

// object is decoded YAML.
type object = map[string]any

// within walks into it.
func within(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := v.(object)
			require.True(t, ok, "%v in %v", step, v)
			v = m[step]
		case int:
			l, ok := v.([]any)
			require.True(t, ok && step < len(l), "%v in %v", step, v)
			v = l[step]
		}
	}
	return v
}

func manifests(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for path, text := range deployed(t) {
		if !strings.HasPrefix(path, "kubernetes/") {
			continue
		}
		decoder := yaml.NewDecoder(strings.NewReader(text))
		for {
			var one object
			err := decoder.Decode(&one)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, path)
			kind, _ := one["kind"].(string)
			require.NotContains(t, all, kind)
			all[kind] = one
		}
	}
	return all
}

func TestManifestsFitTheServerAndOneAnother(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	labels := object{"app": "lethe"}
	require.Equal(t, labels, within(t, all["Deployment"], "spec", "selector", "matchLabels"))
	require.Equal(t, labels, within(t, all["Deployment"], "spec", "template", "metadata", "labels"))
	require.Equal(t, labels, within(t, all["Service"], "spec", "selector"))
	require.Equal(t, labels, within(t, all["PodDisruptionBudget"], "spec", "selector", "matchLabels"))
	for _, kind := range []string{"Deployment", "Job"} {
		pod := within(t, all[kind], "spec", "template", "spec")
		require.Equal(t, true, within(t, pod, "securityContext", "runAsNonRoot"), kind)
		require.Equal(t, 65532, within(t, pod, "securityContext", "runAsUser"), "%s: the image's", kind)
		container := within(t, pod, "containers", 0)
		require.Equal(t, true, within(t, container, "securityContext", "readOnlyRootFilesystem"), kind)
		require.Equal(t, false, within(t, container, "securityContext", "allowPrivilegeEscalation"), kind)
		require.Equal(t, "lethe", within(t, all["ConfigMap"], "metadata", "name"))
		require.Equal(t, "lethe", within(t, all["Secret"], "metadata", "name"))
		require.Equal(t, "lethe", within(t, container, "envFrom", 0, "configMapRef", "name"), kind)
		require.Equal(t, "lethe", within(t, container, "envFrom", 1, "secretRef", "name"), kind)
	}
	container := within(t, all["Deployment"], "spec", "template", "spec", "containers", 0)
	require.Equal(t, "0.0.0.0:8080", within(t, all["ConfigMap"], "data", "LETHE_LISTEN"))
	require.Equal(t, 8080, within(t, container, "ports", 0, "containerPort"))
	require.Equal(t, "0.0.0.0:9090", within(t, all["ConfigMap"], "data", "LETHE_METRICS"))
	require.Equal(t, 9090, within(t, container, "ports", 1, "containerPort"))
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		require.Equal(t, object{"path": path, "port": "http"}, within(t, container, probe, "httpGet"))
	}
	require.Equal(t, "http", within(t, all["Service"], "spec", "ports", 0, "targetPort"))

	var compose object
	require.NoError(t, yaml.Unmarshal([]byte(deployed(t)["compose.yaml"]), &compose))
	require.Equal(t, []any{"migrate", "up"}, within(t, compose, "services", "migrate", "command"))
	require.Equal(t, []any{"127.0.0.1:8080:8080"}, within(t, compose, "services", "lethe", "ports"))
	require.Equal(t, []any{"data:/data"}, within(t, compose, "services", "lethe", "volumes"))
}

func TestTheImageHasNeitherAShellNorRoot(t *testing.T) {
	t.Parallel()
	file := deployed(t)["Dockerfile"]
	stages := strings.Split(file, "\nFROM ")
	last := stages[len(stages)-1]
	require.Regexp(t, `(?m)^gcr\.io/distroless/static\S*:nonroot$`, last)
	require.Regexp(t, `(?m)^USER 65532:65532$`, last)
	require.NotContains(t, last, "\nRUN ", "there is no shell")
	require.Regexp(t, `(?m)^HEALTHCHECK .* CMD \["/usr/local/bin/lethe", "healthy"\]$`, last)
}

// TestTheImageIsBuiltAsTheDockerfileSays does it outside of Docker. Without cgo and with -trimpath every package is
// compiled anew, which takes minutes, so it is asked for.
func TestTheImageIsBuiltAsTheDockerfileSays(t *testing.T) {
	t.Parallel()
	if !strings.Contains(os.Getenv("LETHE_EXTERNAL"), "image") {
		t.Skip("it builds everything anew, where LETHE_EXTERNAL has image")
	}
	file := deployed(t)["Dockerfile"]
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)$`).FindStringSubmatch(file)
	require.NotNil(t, build)
	binary := filepath.Join(t.TempDir(), "lethe")
	require.Contains(t, build[1], " -trimpath ")
	command := strings.Replace(build[1], "/out/lethe", binary, 1)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "VERSION=v1.2.3-test")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	image, err := elf.Open(binary)
	require.NoError(t, err)
	defer image.Close()
	libraries, err := image.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
	for _, part := range image.Progs {
		require.NotEqual(t, elf.PT_INTERP, part.Type, "it needs no loader")
	}
	said, err := exec.CommandContext(t.Context(), binary, "version").Output()
	require.NoError(t, err)
	require.Contains(t, string(said), "lethe v1.2.3-test ")
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	unit := filepath.Join(t.TempDir(), "lethe.service")
	text := strings.ReplaceAll(deployed(t)["lethe.service"], "/usr/local/bin/lethe", binary)
	require.NoError(t, os.WriteFile(unit, []byte(text), 0o600))
	out, err = exec.CommandContext(t.Context(), "systemd-analyze", "verify", unit).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "Unknown", "%s", out)
}
