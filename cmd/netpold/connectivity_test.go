// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/cmd/internal/command"
)

const shop = "../../docs/example/shop.yaml"

// TestConnectivity shows a cluster in every format, whole or in part.
func TestConnectivity(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		exit   int
		stdout []string
		not    string
		stderr string
	}{
		"txt": {args: []string{"-f", shop},
			stdout: []string{"shop/web                              shop/api                              TCP 8081\n"}},
		"namespace": {args: []string{"-f", shop, "-n", "monitoring"}, stdout: []string{"monitoring/prometheus"},
			not: "shop/api, shop/backup"},
		"md": {args: []string{"-f", shop, "-o", "md"},
			stdout: []string{"| shop/api, shop/backup | shop/db | TCP 5432 |\n"}},
		"json": {args: []string{"-f", shop, "-o", "json"},
			stdout: []string{`"id": "shop/CronJob/backup"`, `"192.0.2.0/24"`}},
		"dot": {args: []string{"-f", shop, "-o", "dot"},
			stdout: []string{"digraph connectivity {", `[label="TCP 5432"]`}},
		"unknown format": {args: []string{"-f", shop, "-o", "png"}, exit: command.ExitError,
			stderr: "--output=png: want one of dot, html, json, md, svg, txt"},
		"two sources": {args: []string{"-f", shop, "-f", shop}, exit: command.ExitError,
			stderr: "only one folder or file can be read"},
		"typo": {args: []string{"-f", shop, "-n", "shpo"}, exit: command.ExitError,
			stderr: "no namespace shpo (did you mean shop?)"},
		"no server": {args: []string{"--kubeconfig", "none"}, exit: command.ExitError, stderr: "none: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := execute(t.Context(), "", append([]string{"connectivity"}, tc.args...)...)
			if exit != tc.exit || !strings.Contains(stderr, tc.stderr) || tc.not != "" &&
				strings.Contains(stdout, tc.not) {
				t.Errorf("exit %d, stderr %s, stdout:\n%s", exit, stderr, stdout)
			}
			for _, want := range tc.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
		})
	}
}

// TestFetch reads the cluster from an API server, and ends if that does not answer.
func TestFetch(t *testing.T) {
	lists := map[string][]any{}
	manifests, err := os.ReadFile(shop)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(manifests), "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		if kind, ok := o["kind"].(string); ok {
			lists[kind] = append(lists[kind], o)
		}
	}
	var denied atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := map[string]string{"pods": "Pod", "namespaces": "Namespace",
			"networkpolicies": "NetworkPolicy"}[filepath.Base(r.URL.Path)]
		switch {
		case denied.Load():
			http.Error(w, "no", http.StatusForbidden)
			return
		case r.URL.Query().Has("sendInitialEvents"):
			http.Error(w, "lists are not streamed", http.StatusUnprocessableEntity)
			return
		}
		if r.URL.Query().Has("watch") {
			<-r.Context().Done()
			return
		}
		version := strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(r.URL.Path), "/apis/"), "/api/")
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": version, "kind": kind + "List", "metadata": map[string]any{"resourceVersion": "1"},
			"items": lists[kind],
		})
		if err == nil {
			text, err = yaml.YAMLToJSON(text)
		}
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"contexts": [{"name": "c", "context": {"cluster": "c"}}],
		"clusters": [{"name": "c", "cluster": {"server": %q}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	want, _, _ := execute(t.Context(), "", "connectivity", "-f", shop)
	if got, stderr, exit := execute(t.Context(), "", "connectivity", "--kubeconfig",
		kubeconfig); got != want || exit != 0 {
		t.Errorf("exit %d, %s, got\n%swant\n%s", exit, stderr, got, want)
	}
	denied.Store(true)
	if _, stderr, exit := execute(t.Context(), "", "connectivity", "--kubeconfig",
		kubeconfig); exit != command.ExitError || !strings.Contains(stderr, "read the cluster: ") {
		t.Errorf("of a server that answers no: exit %d, %s", exit, stderr)
	}
}

// TestDiff compares manifests: what differs, why, and the exit status.
func TestDiff(t *testing.T) {
	manifests, err := os.ReadFile(shop)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed.yaml")
	change := func(old, replacement string) {
		text := strings.Replace(string(manifests), old, replacement, 1)
		if text == string(manifests) {
			t.Fatalf("no %q", old)
		}
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	diff := func(args ...string) (string, int) {
		args = append([]string{"diff", "-f", shop, "-f", changed}, args...)
		stdout, stderr, exit := execute(t.Context(), "", args...)
		return stdout + stderr, exit
	}
	expect := func(exit int, want string, args ...string) {
		t.Helper()
		if text, got := diff(args...); got != exit || !strings.Contains(text, want) {
			t.Errorf("diff %v: exit %d, want %d and %q:\n%s", args, got, exit, want, text)
		}
	}
	change("ports: [{port: pg}]", "ports: [{protocol: TCP, port: 5432, endPort: 5432}]") // the same in other words
	expect(0, "No connection is gained or lost.")
	expect(0, `"changes": []`, "-o", "json")
	change("ports: [{port: pg}]", "ports: [{port: pg}, {port: 6379}]") // which no source may open
	expect(0, "No connection")
	change("{app: web}}}], ports: [{port: http}]", "{app: web}}}]")
	expect(0, "No connection") // web may open no more
	change("cidr: 192.0.2.0/24", "cidr: 192.0.2.0/23")
	expect(1, "gained  shop/backup  192.0.3.0/24  TCP 443  egress: allowed by shop/backup\n")
	expect(1, "gained", "--fail-on=gained")
	expect(0, "gained", "--fail-on=lost")
	expect(1, "| gained | shop/backup | 192.0.3.0/24 | TCP 443 | egress: allowed by shop/backup |\n", "-o", "md")
	expect(1, `"text": "egress: allowed by shop/backup"`, "-o", "json")
	change("metadata: {name: web, namespace: shop}", "metadata: {name: web, namespace: elsewhere}")
	expect(1, "ingress: was allowed by shop/web", "--fail-on=lost")
	expect(0, "", "--fail-on=gained")
	expect(command.ExitError, "--fail-on=all: want gained, lost or any", "--fail-on=all")
	expect(command.ExitError, "-f given 3 times", "-f", shop)
	for want, args := range map[string][]string{
		"-f given 1 time: ":    {"-f", shop},
		"-f - given twice":     {"-f", "-", "-f", "-"},
		"no pods found in OLD": {"-f", t.TempDir(), "-f", shop},
		"no pods found in NEW": {"-f", shop, "-f", t.TempDir()},
	} {
		if _, stderr, exit := execute(t.Context(), "", append([]string{"diff"}, args...)...); exit == 0 ||
			!strings.Contains(stderr, want) {
			t.Errorf("diff %v: exit %d, %s", args, exit, stderr)
		}
	}
	expect(command.ExitError, "--output=html", "-o", "html")
}
