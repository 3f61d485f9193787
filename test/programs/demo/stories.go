// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/netpold/netpold/test/harness/pods"
)

// story is some pods, and what happens to them step by step.
type story struct {
	title string
	about string
	pods  []*pods.Pod
	steps []step
}

// step is one change of the manifests. Its expectations are checked, so a demo that shows something else fails.
type step struct {
	say     string
	file    string // written, or removed if content is empty
	content string
	relabel map[string]string // labels by pod name
	agent   agentChange
	run     []string // netpold commands to show afterwards; DIR is the folder of the manifests
	reach   []string // each "client server:port" that must get an answer; no others may
}

// agentChange is what happens to netpold in a step.
type agentChange int

const (
	stays   agentChange = iota
	away                // no netpold runs, before or after the step
	killed              // by SIGKILL, before anything else
	started             // again, after the manifests changed
)

// tell plays one story.
func tell(ctx context.Context, out *screen, netpold string, st story) error {
	dir := "story-" + st.title[:1]
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make a folder for the manifests: %w", err)
	}
	out.title(st.title)
	out.say(st.about)
	defer func() {
		for _, p := range st.pods {
			p.Stop()
		}
	}()
	// Unique link names, because those of the previous story go some time after its pods.
	process := func() *exec.Cmd { return again(ctx, rolePod) }
	if err := pods.StartAll(ctx, st.pods, fmt.Sprintf("veth%c-", st.title[0]), process); err != nil {
		return err
	}
	if err := st.writePods(dir); err != nil {
		return err
	}
	if err := st.show(out, step{reach: st.everything()}); err != nil {
		return err
	}
	a, err := startAgent(ctx, netpold, dir)
	if err != nil {
		return err
	}
	if err := a.committed(); err != nil {
		return err
	}
	for _, s := range st.steps {
		if err := st.play(ctx, out, a, dir, s); err != nil {
			return err
		}
	}
	if err := a.stop(); err != nil {
		return err
	}
	return pods.Shell(ctx, netpold+" cleanup")
}

// play does one step, waits until it is in force and shows who reaches whom.
func (st story) play(ctx context.Context, out *screen, a *agent, dir string, s step) error {
	out.say(s.say)
	for _, p := range st.pods {
		if labels, ok := s.relabel[p.Name]; ok {
			p.Labels = labels
			fmt.Fprintf(out.w, "    pod %s now has the labels {%s}\n", p, labels)
		}
	}
	if s.relabel != nil {
		if err := st.writePods(dir); err != nil {
			return err
		}
	}
	if s.file != "" {
		out.block(s.content)
		if err := replaceFile(filepath.Join(dir, s.file), s.content); err != nil {
			return err
		}
	}
	if err := s.changeAgent(ctx, a); err != nil {
		return err
	}
	if err := st.show(out, s); err != nil {
		return err
	}
	if len(s.run) == 0 {
		out.drops(a.drops())
	}
	for _, args := range s.run {
		if err := runNetpold(ctx, out, a.cmd.Path, strings.Fields(strings.ReplaceAll(args, "DIR", dir))); err != nil {
			return err
		}
	}
	return nil
}

// changeAgent kills or starts netpold, or waits until the step's changes are in force.
func (s step) changeAgent(ctx context.Context, a *agent) error {
	switch s.agent {
	case killed:
		return a.kill()
	case away:
		return nil
	case started:
		next, err := startAgent(ctx, a.cmd.Path, a.dir)
		if err != nil {
			return err
		}
		*a = *next
	}
	return a.committed()
}

// runNetpold runs a netpold command and prints it with its output. Exit status 1, which means that the answer is no, is
// not an error.
func runNetpold(ctx context.Context, out *screen, netpold string, args []string) error {
	text, err := exec.CommandContext(ctx, netpold, args...).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return fmt.Errorf("netpold %s: %w: %s", strings.Join(args, " "), err, text)
	}
	out.say("$ netpold " + strings.Join(args, " "))
	if args[0] == "render" { // the demo has no IPv6
		text = emptyIPv6.ReplaceAll(text, nil)
		out.block(string(text) + "(empty sets for IPv6 are left out here)")
		return nil
	}
	out.block(string(text))
	return nil
}

// emptyIPv6 matches the sets and maps of IPv6 in a table's text.
var emptyIPv6 = regexp.MustCompile(`(?s)\t(set|map) \S+-6 \{.*?\n\t\}\n\n`)

// show prints who reaches whom, and checks it.
func (st story) show(out *screen, s step) error {
	targets := pods.Targets(st.pods)
	var got [][]bool
	var wrong error
	for range attempts {
		var err error
		if got, err = pods.Reach(st.pods, targets); err != nil {
			return err
		}
		if wrong = s.check(st.pods, targets, got); wrong == nil {
			break
		}
	}
	out.matrix(st.pods, targets, got)
	return wrong
}

// attempts is how often to try until a matrix is as expected: on a busy machine an answer may come late.
const attempts = 4

// check returns an error unless the step expects who reached whom.
func (s step) check(all []*pods.Pod, targets []pods.Target, got [][]bool) error {
	for i, p := range all {
		for j, t := range targets {
			if p != t.Pod && got[i][j] != slices.Contains(s.reach, p.Name+" "+t.String()) {
				return fmt.Errorf("%s to %s: reached: %t, but the policies say otherwise", p, t, got[i][j])
			}
		}
	}
	return nil
}

// everything is what is reached without a policy.
func (st story) everything() []string {
	var all []string
	for _, p := range st.pods {
		for _, t := range pods.Targets(st.pods) {
			all = append(all, p.Name+" "+t.String())
		}
	}
	return all
}

// writePods writes the pods and their namespaces as kubectl get prints them.
func (st story) writePods(dir string) error {
	var b strings.Builder
	var namespaces []string
	for _, p := range st.pods {
		if !slices.Contains(namespaces, p.Namespace) {
			namespaces = append(namespaces, p.Namespace)
			fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {project: %s}}\n---\n",
				p.Namespace, p.Namespace)
		}
		b.WriteString(p.Manifest(nodeName))
	}
	return replaceFile(filepath.Join(dir, "pods.yaml"), b.String())
}

// replaceFile writes a file whole, as editors do, or removes it.
func replaceFile(path, content string) error {
	if content == "" {
		return os.Remove(path)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	return os.Rename(path+".new", path)
}
