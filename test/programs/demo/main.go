// SPDX-License-Identifier: Apache-2.0

// Command demo shows netpold at work on the real kernel: network namespaces with real TCP servers stand for pods, and
// `netpold run --manifests` enforces policies between them. Everything happens in its own namespaces, as root or as an
// ordinary user, and is gone when it ends.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/netpold/netpold/test/harness/pods"
)

// nodeName is the demo's node.
const nodeName = "demo"

// The demo runs itself in these roles, by its first argument.
const (
	roleNode = "node" // inside the demo's own namespaces
	rolePod  = "pod"  // inside a pod's network namespace
)

func main() {
	netpold := flag.String("netpold", "bin/netpold", "the netpold program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch flag.Arg(0) {
	case rolePod:
		err = pods.Serve(ctx, os.Stdin, os.Stdout)
	case roleNode:
		err = runNode(ctx, *netpold)
	default:
		err = enterNamespaces(ctx, *netpold)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

// enterNamespaces runs the demo again as the root of new user (for ordinary users), network and mount namespaces.
func enterNamespaces(ctx context.Context, netpold string) error {
	path, err := filepath.Abs(netpold)
	if err != nil {
		return fmt.Errorf("find netpold: %w", err)
	}
	cmd := again(ctx, "-netpold", path, roleNode)
	cmd.Stdin, cmd.Stdout = nil, os.Stdout
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run in new namespaces (as an ordinary user, unprivileged user namespaces must be "+
			"allowed): %w", err)
	}
	return nil
}

// again returns the command that runs this program with other arguments, and dies with it.
func again(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// runNode is the node: it starts the pods and netpold, and tells the stories.
func runNode(ctx context.Context, netpold string) error {
	dir, err := os.MkdirTemp("", "netpold-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the manifests: %w", err)
	}
	defer os.RemoveAll(dir)               //nolint:errcheck // nothing can be done about it
	if err := os.Chdir(dir); err != nil { // so that commands are shown without its path
		return fmt.Errorf("enter the folder of the manifests: %w", err)
	}
	out := newScreen(os.Stdout)
	out.say("netpold at work on this machine's kernel. Network namespaces with real servers stand for pods.\n" +
		"Who reaches whom: ✓ connects, ✗ does not, · is the pod itself.")
	for _, story := range stories() {
		if err := tell(ctx, out, netpold, story); err != nil {
			return fmt.Errorf("%s: %w", story.title, err)
		}
	}
	if err := tellAdopting(ctx, out, netpold); err != nil {
		return err
	}
	out.say("All of this is gone now. To install netpold on a cluster, see docs/install.md.")
	return nil
}

// agent is a running netpold.
type agent struct {
	cmd   *exec.Cmd
	dir   string      // of its manifests
	lines chan string // what it logs; closed when it ends
}

// startAgent starts netpold for the manifests in dir.
func startAgent(ctx context.Context, netpold, dir string, flags ...string) (*agent, error) {
	args := append([]string{"run", "--manifests", dir, "--node", nodeName, "--log-level", "debug"}, flags...)
	cmd := exec.CommandContext(ctx, netpold, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start netpold: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start netpold: %w", err)
	}
	a := &agent{cmd: cmd, dir: dir, lines: make(chan string, 1000)}
	go func() {
		defer close(a.lines)
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			a.lines <- scanner.Text()
		}
	}()
	return a, nil
}

// committed waits until netpold logs a transaction.
func (a *agent) committed() error { return a.await("msg=transaction") }

// await waits until netpold logs a line with that text.
func (a *agent) await(text string) error {
	var last string
	for deadline := time.After(10 * time.Second); ; {
		select {
		case line, open := <-a.lines:
			switch {
			case !open:
				return fmt.Errorf("netpold ended: %s", last)
			case strings.Contains(line, text):
				return nil
			}
			last = line
		case <-deadline:
			return fmt.Errorf("netpold did not log %q; its last line: %s", text, last)
		}
	}
}

// drops returns what netpold has logged about blocked attempts since the last call. It logs them within 100 ms, which
// is less than an attempt takes to give up.
func (a *agent) drops() []string {
	var drops []string
	for {
		select {
		case line, open := <-a.lines:
			if !open {
				return drops
			}
			if text := message(line); strings.Contains(text, " blocked: ") {
				drops = append(drops, text)
			}
		default:
			return drops
		}
	}
}

// message returns the message of a line that slog wrote.
func message(line string) string {
	_, rest, _ := strings.Cut(line, " msg=")
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return ""
	}
	text, _ := strconv.Unquote(quoted) // cannot fail
	return text
}

// kill kills netpold, as running out of memory would.
func (a *agent) kill() error {
	if err := a.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill netpold: %w", err)
	}
	for range a.lines {
	}
	_ = a.cmd.Wait() // reports that it was killed
	return nil
}

// stop ends netpold; its table stays until the next one starts.
func (a *agent) stop() error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop netpold: %w", err)
	}
	for range a.lines {
	}
	return a.cmd.Wait()
}
