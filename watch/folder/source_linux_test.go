// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/sink"
)

// policyText is a policy of namespace shop that selects app=name.
func policyText(name string) string {
	return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s, namespace: shop},
spec: {podSelector: {matchLabels: {app: %s}}}}
`, name, name)
}

const namespaceText = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n"

// folderTest is a watched folder in dir.
type folderTest struct {
	*sink.Recorder
	t      *testing.T
	dir    string
	log    sink.Log
	source *Source
}

func newFolderTest(t *testing.T) *folderTest {
	t.Helper()
	ft := &folderTest{Recorder: sink.NewRecorder(), t: t, dir: filepath.Join(t.TempDir(), "manifests"),
		log: make(sink.Log, 1000)}
	ft.source = &Source{Dir: ft.dir, Log: slog.New(slog.NewTextHandler(ft.log, nil))}
	ft.mkdir("")
	return ft
}

// watchFolder returns a folder that has namespace shop, which is already reported.
func watchFolder(t *testing.T) *folderTest {
	t.Helper()
	ft := newFolderTest(t)
	ft.write("0.yaml", namespaceText)
	ft.start()
	ft.Next(t, "set namespace shop")
	return ft
}

func (ft *folderTest) start() {
	ft.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ft.source.Run(ctx, ft) }()
	ft.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			ft.t.Errorf("Run: %v", err)
		}
	})
	<-ft.Done
}

func (ft *folderTest) path(name string) string { return filepath.Join(ft.dir, name) }

func (ft *folderTest) ok(err error) {
	ft.t.Helper()
	if err != nil {
		ft.t.Fatal(err)
	}
}

func (ft *folderTest) mkdir(name string) {
	ft.t.Helper()
	ft.ok(os.MkdirAll(ft.path(name), 0o755))
}

func (ft *folderTest) write(name, text string) {
	ft.t.Helper()
	ft.ok(os.WriteFile(ft.path(name), []byte(text), 0o644))
}

func (ft *folderTest) rename(from, to string) {
	ft.t.Helper()
	ft.ok(os.Rename(ft.path(from), ft.path(to)))
}

func (ft *folderTest) link(target, name string) {
	ft.t.Helper()
	ft.ok(os.Symlink(target, ft.path(name)))
}

func (ft *folderTest) remove(name string) {
	ft.t.Helper()
	ft.ok(os.RemoveAll(ft.path(name)))
}

// mark writes a file that must be all that the next update has.
func (ft *folderTest) mark(name string) {
	ft.t.Helper()
	ft.write("mark-"+name+".yaml", policyText("mark-"+name))
	ft.Next(ft.t, fmt.Sprintf("set policy shop/mark-%s selects app=mark-%s", name, name))
}

func TestSourceFiles(t *testing.T) {
	ft := watchFolder(t)
	ft.write("a.yaml", policyText("a"))
	ft.Next(t, "set policy shop/a selects app=a")

	ft.write("a.yaml", policyText("b")+"---\n"+policyText("c"))
	ft.Next(t, "delete policy shop/a", "set policy shop/b selects app=b", "set policy shop/c selects app=c")

	ft.write("a.yaml", "# the same\n"+policyText("b")+"---\n"+policyText("c"))
	ft.mark("unchanged") // objects that are the same are no update

	ft.write(".new", policyText("b"))
	ft.rename(".new", "a.yaml")
	ft.Next(t, "delete policy shop/c")

	ft.rename("a.yaml", "b.yaml")
	ft.mark("renamed") // seen as one change
	ft.ok(os.Link(ft.path("b.yaml"), filepath.Join(filepath.Dir(ft.dir), "other")))
	ft.remove("b.yaml")
	ft.Next(t, "delete policy shop/b")

	ft.ok(os.Link(filepath.Join(filepath.Dir(ft.dir), "other"), ft.path("hard.yaml")))
	ft.Next(t, "set policy shop/b selects app=b")
	ft.write("hard.yaml", "")
	ft.Next(t, "delete policy shop/b")
}

func TestSourceHalfWritten(t *testing.T) {
	ft := watchFolder(t)
	f, err := os.Create(ft.path("a.yaml"))
	ft.ok(err)
	_, err = f.WriteString(policyText("a"))
	ft.ok(err)
	ft.mark("open")
	_, err = f.WriteString("---\n" + policyText("b"))
	ft.ok(err)
	ft.ok(f.Close())
	ft.Next(t, "set policy shop/a selects app=a", "set policy shop/b selects app=b")

	// Opening it again and truncating it is not noticed either.
	f, err = os.Create(ft.path("a.yaml"))
	ft.ok(err)
	ft.mark("again")
	ft.ok(f.Close())
	ft.Next(t, "delete policy shop/a", "delete policy shop/b")
}

// watchOld returns a folder with namespace shop and policy a, where files written today are not settled.
func watchOld(t *testing.T) *folderTest {
	t.Helper()
	ft := newFolderTest(t)
	ft.writeOld("0.yaml", namespaceText)
	ft.writeOld("a.yaml", policyText("a"))
	ft.source.quiet = 24 * time.Hour
	ft.start()
	ft.Next(t, "set namespace shop", "set policy shop/a selects app=a")
	return ft
}

// writeOld writes a file as of two days ago.
func (ft *folderTest) writeOld(name, text string) {
	ft.t.Helper()
	ft.write(name, text)
	old := time.Now().Add(-48 * time.Hour)
	ft.ok(os.Chtimes(ft.path(name), old, old))
}

// TestSourceUnsettled: when everything is read again, a file written a moment ago may not be complete.
func TestSourceUnsettled(t *testing.T) {
	ft := watchOld(t)

	f, err := os.Create(ft.path("a.yaml")) // and truncates it
	ft.ok(err)
	ft.rename(".", "../moved")
	ft.rename("../moved", ".")
	ft.writeOld("b.yaml", policyText("b"))
	ft.Next(t, "set policy shop/b selects app=b")
	_, err = f.WriteString(policyText("c"))
	ft.ok(err)
	ft.ok(f.Close())
	ft.Next(t, "delete policy shop/a", "set policy shop/c selects app=c")
}

// TestSourceRewritten: a file that is rewritten repeatedly is never read in between.
func TestSourceRewritten(t *testing.T) {
	ft := watchOld(t)
	for i := range 300 {
		ft.write("a.yaml", strings.Repeat("# comment\n", i)+policyText("a")) // truncates it first
	}
	ft.mark("rewritten")
}

func TestSourceBroken(t *testing.T) {
	for _, tt := range []struct{ name, text, problem string }{
		{"syntax", "a: b: c\n", "a.yaml:1: mapping values are not allowed"},
		{"binary", "\x7fELF\x00", "a.yaml:1: control characters are not allowed"},
		{"no name", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {}\n",
			"a.yaml:1: NetworkPolicy: metadata.name: is missing"},
		{"namespace misspelt",
			"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namspace: shop}\n",
			"a.yaml:1: NetworkPolicy default/a: metadata.namspace: unknown field"},
		{"kind misspelt", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy\nmetadata: {name: a}\n",
			"a.yaml:1: want kind NetworkPolicy"},
		{"label", policyText("b") +
			"---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, labels: {a: 1}}\n",
			"a.yaml:4: document 2: pod shop/a: metadata.labels[a]: want a string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ft := watchFolder(t)
			ft.write("a.yaml", policyText("a"))
			ft.Next(t, "set policy shop/a selects app=a")
			ft.write("a.yaml", tt.text)
			ft.mark("broken")
			ft.log.Expect(t, "level=ERROR", "its last content stays in force", tt.problem)
			ft.write("a.yaml", policyText("b"))
			ft.Next(t, "delete policy shop/a", "set policy shop/b selects app=b")
			ft.log.Expect(t, "manifests are valid again")
		})
	}
}

func TestSourceNarrows(t *testing.T) {
	ft := watchFolder(t)
	ft.write("a.yaml", policyText("a"))
	ft.Next(t, "set policy shop/a selects app=a")
	ft.write("a.yaml", strings.Replace(policyText("a"), "podSelector", "podSelecter", 1))
	ft.Next(t, "set policy shop/a selects")
	ft.log.Expect(t, "level=ERROR", "ignoring invalid parts of manifest",
		"a.yaml:1: NetworkPolicy shop/a: spec.podSelecter: unknown field")
}

func TestSourceTwice(t *testing.T) {
	ft := watchFolder(t)
	ft.write("b.yaml", policyText("a"))
	ft.Next(t, "set policy shop/a selects app=a")
	ft.write("c.yaml", strings.Replace(policyText("a"), "app: a", "app: c", 1))
	ft.log.Expect(t, "c.yaml:1: NetworkPolicy shop/a: is also in ", "b.yaml:1, which takes precedence")
	ft.write("a.yaml", strings.Replace(policyText("a"), "app: a", "app: first", 1))
	ft.Next(t, "set policy shop/a selects app=first")
	ft.remove("a.yaml")
	ft.Next(t, "set policy shop/a selects app=a")
	ft.remove("b.yaml")
	ft.Next(t, "set policy shop/a selects app=c")
}

func TestSourceFolders(t *testing.T) {
	ft := watchFolder(t)
	for i := range 20 { // a file that comes between mkdir and the watch is not missed
		name := fmt.Sprintf("sub%d", i)
		ft.mkdir(name + "/deep")
		ft.write(name+"/deep/a.yaml", policyText(name))
		ft.Next(t, fmt.Sprintf("set policy shop/%s selects app=%s", name, name))
	}
	ft.rename("sub0", "other")
	ft.mark("renamed")
	ft.write("other/deep/a.yaml", policyText("changed"))
	ft.Next(t, "delete policy shop/sub0", "set policy shop/changed selects app=changed")
	ft.rename("other", "../other")
	ft.Next(t, "delete policy shop/changed")
	ft.write("../other/deep/a.yaml", policyText("outside"))
	ft.mark("outside")
	ft.rename("../other", "back")
	ft.Next(t, "set policy shop/outside selects app=outside")
	ft.link("..", "back/deep/loop")
	ft.mark("loop")
	ft.remove("sub1/deep/a.yaml")
	ft.Next(t, "delete policy shop/sub1")
	ft.mkdir(".hidden")
	ft.write(".hidden/a.yaml", policyText("hidden"))
	ft.mark("hidden")
}

// TestSourceConfigMap updates a mounted ConfigMap as the kubelet's AtomicWriter does.
func TestSourceConfigMap(t *testing.T) {
	ft := watchFolder(t)
	ft.mkdir("..1/sub")
	ft.write("..1/a.yaml", policyText("a"))
	ft.write("..1/sub/b.yaml", policyText("b"))
	ft.link("..1", "..data")
	ft.mark("unlinked")
	ft.link("..data/a.yaml", "a.yaml")
	ft.Next(t, "set policy shop/a selects app=a")
	ft.link("..data/sub", "sub")
	ft.Next(t, "set policy shop/b selects app=b")

	ft.mkdir("..2/sub")
	ft.write("..2/a.yaml", policyText("c"))
	ft.write("..2/sub/b.yaml", policyText("d"))
	ft.link("..2", "..data_tmp")
	ft.rename("..data_tmp", "..data")
	ft.Next(t, "delete policy shop/a", "delete policy shop/b",
		"set policy shop/c selects app=c", "set policy shop/d selects app=d")
	ft.remove("..1")
	ft.mark("removed")
	ft.remove("sub")
	ft.Next(t, "delete policy shop/d")
}

// TestSourceLinkToNothing: the target of a link is gone, or never existed. That is reported, and its last content stays
// until the link goes, too.
func TestSourceLinkToNothing(t *testing.T) {
	ft := newFolderTest(t)
	ft.source.quiet = time.Millisecond
	ft.write("0.yaml", namespaceText)
	ft.link("nowhere.yaml", "b.yaml")
	ft.start()
	ft.Next(t, "set namespace shop")
	ft.log.Expect(t, "level=ERROR", "b.yaml: is a dangling symbolic link")
	ft.write("target", policyText("a"))
	ft.link("target", "a.yaml")
	ft.Next(t, "set policy shop/a selects app=a")
	ft.remove("target")
	ft.link("nowhere", ".link")
	ft.rename(".link", "a.yaml")
	ft.mark("broken")
	ft.log.Expect(t, "its last content stays in force", "a.yaml: is a dangling symbolic link")
	ft.remove("a.yaml")
	ft.Next(t, "delete policy shop/a")
}

func TestSourceFolderReplaced(t *testing.T) {
	ft := watchFolder(t)
	ft.write("a.yaml", policyText("a"))
	ft.Next(t, "set policy shop/a selects app=a")
	ft.rename(".", "../old")
	ft.log.Expect(t, "level=ERROR", "gone; its last state stays in force")
	ft.mkdir("")
	ft.write("../old/a.yaml", "")
	ft.write("b.yaml", policyText("b"))
	ft.Next(t, "delete policy shop/a", "set policy shop/b selects app=b")
	ft.rename("../old/0.yaml", "0.yaml")
	ft.remove("b.yaml")
	ft.Next(t, "delete policy shop/b")
}

func TestSourceNoFolder(t *testing.T) {
	source := &Source{Dir: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)}
	if err := source.Run(t.Context(), sink.NewRecorder()); err == nil ||
		!strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v, want an error that names the folder", err)
	}
}
