// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/netpold/netpold/test/harness/sink"
	"github.com/netpold/netpold/translate/policy"
)

var update = flag.Bool("update", false, "rewrite testdata")

// describeCluster returns a line for each object of a cluster.
func describeCluster(c *policy.Cluster) string {
	var b strings.Builder
	for _, p := range c.Pods {
		fmt.Fprintf(&b, "pod %s on %s %s %v", p.NamespacedName, p.Node, sink.Labels(p.Labels), p.IPs)
		for _, port := range p.Ports {
			fmt.Fprintf(&b, " %s/%d:%d", port.Name, port.Proto, port.Number)
		}
		if p.Running {
			b.WriteString(" running")
		}
		if p.Owner != "" {
			fmt.Fprintf(&b, " %s %s", p.Owner, p.Created.UTC().Format(time.RFC3339))
		}
		b.WriteString("\n")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		if c.Namespaces[name]["kubernetes.io/metadata.name"] != name {
			b.WriteString("without its name: ")
		}
		fmt.Fprintf(&b, "namespace %s %s\n", name, sink.Labels(c.Namespaces[name]))
	}
	for _, np := range c.Policies {
		fmt.Fprintf(&b, "policy %s/%s %v podSelector %s; %d ingress, %d egress\n", np.Namespace, np.Name,
			np.Spec.PolicyTypes,
			metav1.FormatLabelSelector(&np.Spec.PodSelector), len(np.Spec.Ingress), len(np.Spec.Egress))
	}
	for _, p := range c.ClusterPolicies {
		fmt.Fprintf(&b, "cluster policy %s %q %d; %d ingress, %d egress; unread %d\n", p.Name, p.Spec.Tier,
			p.Spec.Priority, len(p.Spec.Ingress), len(p.Spec.Egress), len(p.Unread))
	}
	for _, n := range c.NodePeers {
		if len(n.Addresses) > 0 {
			fmt.Fprintf(&b, "node %s %s %v\n", n.Name, sink.Labels(n.Labels), n.Addresses)
		}
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// TestLoad loads the files of each case as a folder. A case's last two files are the expected results.
func TestLoad(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := make(map[string]string)
			var files []txtar.File
			for _, f := range archive.Files {
				if f.Name == "cluster" || f.Name == "errors" {
					want[f.Name] = string(f.Data)
					continue
				}
				files = append(files, f)
				name := filepath.Join(dir, f.Name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755),
					os.WriteFile(name, f.Data, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			c, errs, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{"cluster": describeCluster(c)}
			for _, err := range errs {
				got["errors"] += strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
			}
			if *update {
				archive.Files = append(files, txtar.File{Name: "cluster", Data: []byte(got["cluster"])})
				if got["errors"] != "" {
					archive.Files = append(archive.Files, txtar.File{Name: "errors", Data: []byte(got["errors"])})
				}
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 10), ", "))
	}
	rules := "&r " + `{ports: [&p {port: 1}, ` + strings.Repeat("*p, ", 500) + "]}"
	for _, tt := range []struct{ name, text, cluster, errs string }{
		{"empty", "", "", ""},
		{"only comments", "# a\n---\n# b\n", "", ""},
		{"byte order mark and CRLF", "\ufeff" + strings.ReplaceAll(pod, "\n", "\r\n"), "pod default/a", ""},
		{"UTF-16", "\xff\xfea\x00", "", "in:1: not UTF-8 text"},
		{"binary", "apiVersion: v1\n\x00\x01", "", "in:1: control characters are not allowed"},
		{"unknown anchor", "a: b\nc: *d\n", "", "in:1: unknown anchor 'd' referenced"},
		{"unclosed bracket", "a: [1,\n2\nb: c\n", "", "in:3: did not find expected ',' or ']'"},
		{"unclosed quote", "a: b\nc: \"d\ne: f\n", "", "in:3: found unexpected end of stream"},
		{"wrong indent", "a:\n  b: c\n d: e\n", "", "in:3: did not find expected key"},
		{"flow mapping", "{apiVersion: v1, kind: Pod, metadata: {name: a}}", "pod default/a", ""},
		{"flow mapping without an end", "{apiVersion: v1, kind: Pod", "", "in:1: did not find expected ',' or '}'"},
		{"what follows a flow mapping", "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n{b: c}\n", "",
			"in:2: did not find expected <document start>"},
		{"broken JSON", "{\"kind\": \"Pod\",\n \"a\": ]}", "", "in:2: invalid character ']'"},
		{"deep YAML", pod + "spec: " + strings.Repeat("[", 20_000), "", "in:4: exceeded max depth of 10000"},
		{"deep flow", pod + "spec: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "",
			"in:1: nested too deep"},
		{"deep JSON", `{"a":` + strings.Repeat("[", 20_000), "", "in:1: invalid character '[' exceeded max depth"},
		{"infinity", pod + "spec: {a: .inf}", "", "in:1: unsupported value: +Inf"},
		{"alias bomb", pod + bomb, "", "in:1: document contains excessive aliasing"},
		{"alias bomb of rules",
			"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  ingress: [" +
				rules + ", " + strings.Repeat("*r, ", 500) + "]\n", "", "in:1: document contains excessive aliasing"},
		{"alias bomb of text", pod + "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,",
			5000) + "]\n", "",
			"in:1: YAML aliases expand to too much text"},
		{"alias of itself", "&a {apiVersion: v1, kind: List, items: [*a]}", "",
			"in:1: anchor 'a' value contains itself"},
		{"merge of itself", "&a {<<: *a, apiVersion: v1, kind: Pod, metadata: {name: a}}", "",
			"in:1: anchor 'a' value contains itself"},
		{"no document stops the next", "a: [\n--- # comment\n" + pod +
			"...\nb: ]\n---\n{c: d, kind: D, apiVersion: e}\n", "pod default/a", "in:7: document 3: did not find"},
		{"no JSON stops the one before", `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}` + "\n{]",
			"pod default/a",
			"in:2: document 2: invalid character ']'"},
		{"JSON between separators", "---\n" + `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}` +
			"\n---\n" + pod, "pod default/a",
			"in:4: document 2: pod default/a: is also in in:2, which takes precedence"},
		{"directive", "%YAML 1.1\n# comment\n--- {apiVersion: v1, kind: Pod, metadata: {name: a}}",
			"pod default/a", ""},
		{"a name twice", strings.Replace(pod, "name: a", "name: a, name: b", 1), "",
			"in:1: pod default/b: metadata.name: appears twice"},
		{"a label twice", `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b", ` +
			`"a": "c"}}}`, "pod default/a",
			"in:1: pod default/a: metadata.labels.a: appears twice"},
		{"a kind twice", `{"apiVersion": "v1", "kind": "Pod", "kind": "ConfigMap", "metadata": {"name": "a"}}`, "",
			"in:1: kind: appears twice"},
		{"a policy's namespace twice",
			"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b, namespace: " +
				"c}\nspec: {}\n",
			"", "metadata.namespace: appears twice"},
		{"a podSelector twice", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n" +
			"spec: {podSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}, ingress: [{}], " +
			"policyTypes: [Ingress]}\n",
			"namespace default\npolicy default/a [Ingress Egress] podSelector <none>; 0 ingress, 0 egress",
			"in:1: NetworkPolicy default/a: spec.podSelector: appears twice"},
		{"a podSelector twice after a hundred others",
			"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n" +
				"spec: {ingress: [" + strings.Repeat("{from: [], from: []}, ",
				200) + "], podSelector: {}, podSelector: {matchLabels: {c: d}}}\n",
			"namespace default\npolicy default/a [Ingress Egress] podSelector <none>; 0 ingress, 0 egress",
			"appears twice"},
		{"keys that differ in YAML only", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {1: a, \"1\": b}}\n",
			"pod default/a",
			"in:1: pod default/a: metadata.labels.1: appears twice"},
		{"two of a kind", pod + "---\n" + pod, "pod default/a",
			"in:5: document 2: pod default/a: is also in in:1, which takes precedence"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, errs := Read("in", strings.NewReader(tt.text))
			if got := describeCluster(c); !strings.HasPrefix(got, tt.cluster) || tt.cluster == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.cluster)
			}
			if err := errors.Join(errs...); (tt.errs == "") != (err == nil) || err != nil &&
				!strings.Contains(err.Error(), tt.errs) {
				t.Errorf("got errors:\n%v\nwant %q", err, tt.errs)
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	if _, err := readAll(strings.NewReader("12345"), 4); err == nil || err.Error() != "larger than 4 bytes" {
		t.Errorf("got %v", err)
	}
	if _, _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

// TestLoadEndless: a file that never ends, but looks ordinary to stat(2), holds up nobody.
func TestLoadEndless(t *testing.T) {
	const endless = "/proc/kmsg"
	if f, err := os.Open(endless); err != nil {
		t.Skip(err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(endless, filepath.Join(dir, "log.yaml")); err != nil {
		t.Fatal(err)
	}
	_, errs, err := Load(dir)
	if err != nil || len(errs) != 1 || !strings.HasSuffix(errs[0].Error(), "log.yaml: i/o timeout") {
		t.Errorf("got %v, %v", errs, err)
	}
}

// FuzzRead: whatever a file contains, the loader returns, its result is at most a multiple of the file, and no accepted
// name breaks a line or a quotation.
func FuzzRead(f *testing.F) {
	cases, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		for doc := range documents(data) {
			size += len(doc.text)
		}
		if limit := maxExpansion + 20*len(data); size > limit+maxExpansion*bytes.Count(data, []byte("\n")) {
			t.Errorf("%d bytes become %d", len(data), size)
		}
		c, errs := Read("in", strings.NewReader(string(data)))
		for line := range strings.SplitSeq(strings.TrimSuffix(describeCluster(c), "\n"), "\n") {
			kinds := []string{"pod", "namespace", "policy", "cluster", "node"}
			if line != "" && !slices.Contains(kinds, strings.Fields(line)[0]) {
				t.Errorf("line %q in the cluster", line)
			}
		}
		for _, err := range errs {
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("error of several lines: %q", err)
			}
		}
	})
}
