// SPDX-License-Identifier: Apache-2.0

// Package adopting runs docs/adopting.md command by command on an application with three tiers: real processes in
// network namespaces, real packets, and a netpold that counts and filters them.
package adopting_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/page"
	"github.com/netpold/netpold/test/harness/pods"
)

// asPod is set in the environment of the process of a pod.
const asPod = "NETPOLD_TEST_POD"

func TestMain(m *testing.M) {
	if os.Getenv(asPod) != "" {
		if err := pods.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(netns.Run(m))
}

// node is the cluster of the page: one node, with the shop on it.
type node struct {
	*testing.T
	shop      *pods.Shop
	dir       string   // where the commands run
	manifests string   // takes the place of the API server
	env       []string // of the commands
	log       chan string
}

// TestPage runs the page's commands. Its comments say what happens between them.
func TestPage(t *testing.T) {
	newNode(t).page("../../docs/adopting.md", "netpold connectivity", "netpold flows", "netpold suggest",
		"kubectl annotate", "kubectl apply", "netpold drops", "netpold explain", "the application works",
		"the intruder gets through", "the intruder is stopped")
}

// page runs a page's steps, of which there must be some.
func (n *node) page(file string, steps ...string) {
	n.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		n.Fatal(err)
	}
	done := make(map[string]int)
	for _, s := range page.Steps(string(text)) {
		switch s.Comment {
		case "":
			n.run(s)
			done[strings.Join(strings.Fields(s.Command)[:2], " ")]++
			continue
		case "the application works":
			n.expect(n.shop.Talk, true)
		case "the intruder gets through":
			n.expect(n.shop.Intrude, true)
		case "the intruder is stopped":
			n.expect(n.shop.Intrude, false)
		default:
			n.Fatalf("the page has an unknown comment %q", s.Comment)
		}
		done[s.Comment]++
	}
	for _, step := range steps {
		if done[step] == 0 {
			n.Errorf("the page does not show: %s", step)
		}
	}
}

// newNode starts the shop and netpold in their own network namespace.
func newNode(t *testing.T) *node {
	dir := t.TempDir()
	n := &node{T: t, shop: pods.NewShop("1"), dir: filepath.Join(dir, "work"),
		manifests: filepath.Join(dir, "manifests"), log: make(chan string, 10000)}
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{n.dir, n.manifests, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(bin, "netpold")
	if out, err := exec.Command("go", "build", "-o", program,
		"github.com/netpold/netpold/cmd/netpold").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	kubectl, err := filepath.Abs("testdata/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kubectl, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	n.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "MANIFESTS="+n.manifests, "TZ=UTC")
	netns.Enter(t)
	process := func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env, cmd.Stderr = append(os.Environ(), asPod+"=1"), os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	t.Cleanup(func() {
		for _, p := range n.shop.Pods {
			p.Stop()
		}
	})
	netns.Require(t, pods.StartAll(t.Context(), n.shop.Pods, "shop", process))
	n.startNetpold(program)
	return n
}

// startNetpold writes the cluster's manifests, and starts netpold on them.
func (n *node) startNetpold(program string) {
	all, namespaces := pods.Manifests(n.shop.Pods, "node-1")
	n.write("pods.yaml", all)
	for _, ns := range namespaces {
		n.write("namespace-"+ns+".yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}\n")
	}
	cmd := exec.Command(program, "run", "--manifests", n.manifests, "--node", "node-1", "--observe",
		"--log-level", "debug")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.Fatal(err)
	}
	go func() {
		defer close(n.log)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			n.log <- lines.Text()
		}
	}()
	n.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	n.await("msg=transaction")
}

// write writes a manifest.
func (n *node) write(name, text string) {
	if err := os.WriteFile(filepath.Join(n.manifests, name), []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
}

// await waits until netpold logs a line with that text.
func (n *node) await(text string) {
	n.Helper()
	last := ""
	for deadline := time.After(30 * time.Second); ; {
		select {
		case line, open := <-n.log:
			switch {
			case !open:
				n.Fatalf("netpold ended: %s", last)
			case strings.Contains(line, text):
				return
			}
			last = line
		case <-deadline:
			n.Fatalf("netpold did not log %q; its last line: %s", text, last)
		}
	}
}

// settle waits until netpold has committed a change, if there is anything to commit.
func (n *node) settle() {
	for wait := time.After(time.Second); ; {
		select {
		case line := <-n.log:
			if strings.Contains(line, "msg=transaction") {
				return
			}
		case <-wait:
			return
		}
	}
}

// run runs a command of the page, and wants the page's output. Commands that only read are retried for a while, because
// counts and logs lag behind the packets.
func (n *node) run(s page.Step) {
	n.Helper()
	for range len(n.log) {
		<-n.log
	}
	changes := strings.HasPrefix(s.Command, "kubectl a")
	var got string
	for try := range 20 {
		if try > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		cmd := exec.Command("sh", "-c", s.Command)
		cmd.Dir, cmd.Env = n.dir, n.env
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
			n.Fatalf("%s: %v\n%s", s.Command, err, out)
		}
		got = strings.TrimRight(string(out), "\n")
		var lines []string
		if got != "" {
			lines = strings.Split(got, "\n")
		}
		if page.Matches(lines, s.Want) {
			if changes {
				n.await(`msg="manifests changed"`)
				n.settle()
			}
			return
		}
		if changes {
			break
		}
	}
	n.Errorf("$ %s\nthe page says\n%s\nit prints\n%s", s.Command, strings.Join(s.Want, "\n"), got)
}

// expect checks that either all or none of some connections are answered. On a busy machine an answer may come late.
func (n *node) expect(all []pods.Talk, want bool) {
	n.Helper()
	var wrong string
	for range 4 {
		got, err := pods.Reached(all)
		if err != nil {
			n.Fatal(err)
		}
		wrong = ""
		for i, t := range all {
			if got[i] != want {
				wrong += fmt.Sprintf("%s reaches %s: %t, want %t\n", t.From, t.To, got[i], want)
			}
		}
		if wrong == "" {
			return
		}
	}
	n.Error(wrong)
}
