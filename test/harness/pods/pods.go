// SPDX-License-Identifier: Apache-2.0

// Package pods runs processes that stand for the pods of a node: real servers and clients, each in its own network
// namespace. The node is the caller's network namespace, which forwards between them.
package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Pod is a pod, and the process in its network namespace.
type Pod struct {
	Namespace, Name string
	Owner           string // its controller, as "ReplicaSet/web-5d9f", or ""
	Labels          string // as YAML flow mapping, without the braces
	Address         string // of IPv4
	TCP, UDP        []int  // ports that it serves

	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

// String returns the pod as "namespace/name".
func (p *Pod) String() string { return p.Namespace + "/" + p.Name }

// Manifest returns the pod as kubectl get prints it, as one YAML document that ends in a separator.
func (p *Pod) Manifest(node string) string {
	owner := ""
	if kind, name, owned := strings.Cut(p.Owner, "/"); owned {
		owner = fmt.Sprintf("\n  ownerReferences: [{kind: %s, name: %s, controller: true}]", kind, name)
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: %s
  labels: {%s}%s
spec: {nodeName: %s, containers: [{name: app, image: demo}]}
status: {phase: Running, podIP: %s, podIPs: [{ip: %s}]}
---
`, p.Name, p.Namespace, p.Labels, owner, node, p.Address, p.Address)
}

// Start runs a command that calls [Serve] as the process of the pod, in its own network namespace, and connects it to
// the node by a veth pair.
func (p *Pod) Start(ctx context.Context, cmd *exec.Cmd, veth string) error {
	p.cmd = cmd
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	p.answers = json.NewDecoder(out)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	if err := Shell(ctx,
		fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", veth, cmd.Process.Pid),
		"ip link set "+veth+" up",
		"ip route add "+p.Address+"/32 dev "+veth,
	); err != nil {
		return fmt.Errorf("connect pod %s: %w", p, err)
	}
	// The node answers ARP for every address, without delay, as with CNIs that have point-to-point links.
	for sysctl, value := range map[string]string{"conf/" + veth + "/proxy_arp": "1",
		"neigh/" + veth + "/proxy_delay": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+sysctl, []byte(value), 0); err != nil {
			return fmt.Errorf("connect pod %s: %w", p, err)
		}
	}
	_, err = p.ask(request{TCP: p.TCP, UDP: p.UDP, Run: []string{
		"ip link set lo up",
		"ip addr add " + p.Address + "/32 dev eth0",
		"ip link set eth0 up",
		"ip route add default dev eth0",
	}})
	return err
}

// StartAll makes the calling thread's network namespace a node, and starts pods on it. The names of the links begin
// with prefix, of at most 8 letters.
func StartAll(ctx context.Context, all []*Pod, prefix string, process func() *exec.Cmd) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("let the node forward: %w", err)
	}
	if err := Shell(ctx, "ip link set lo up"); err != nil {
		return err
	}
	for i, p := range all {
		if err := p.Start(ctx, process(), fmt.Sprintf("%s%d", prefix, i)); err != nil {
			return err
		}
	}
	return nil
}

// Target is a server that clients try to reach.
type Target struct {
	Pod  *Pod
	Port int
}

// String returns the target as "db-0:5432".
func (t Target) String() string { return fmt.Sprintf("%s:%d", t.Pod.Name, t.Port) }

// address returns the target as requests name it.
func (t Target) address() string {
	network := "tcp"
	if slices.Contains(t.Pod.UDP, t.Port) {
		network = "udp"
	}
	return fmt.Sprintf("%s/%s:%d", network, t.Pod.Address, t.Port)
}

// Targets returns every server of pods.
func Targets(all []*Pod) []Target {
	var targets []Target
	for _, p := range all {
		for _, port := range slices.Concat(p.TCP, p.UDP) {
			targets = append(targets, Target{p, port})
		}
	}
	return targets
}

// Reach lets every pod try every target at once, and returns which got an answer.
func Reach(all []*Pod, targets []Target) ([][]bool, error) {
	got := make([][]bool, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { got[i], errs[i] = p.Reach(targets...) })
	}
	wg.Wait()
	return got, errors.Join(errs...)
}

// Reach tries to reach targets, at once, and returns which of them answer.
func (p *Pod) Reach(targets ...Target) ([]bool, error) {
	var addresses []string
	for _, t := range targets {
		addresses = append(addresses, t.address())
	}
	a, err := p.ask(request{Dial: addresses})
	return a.Reached, err
}

// ask sends the pod's process a request and waits for its answer.
func (p *Pod) ask(r request) (answer, error) {
	var a answer
	if err := json.NewEncoder(p.in).Encode(r); err != nil {
		return a, fmt.Errorf("ask pod %s: %w", p, err)
	}
	if err := p.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("no answer from pod %s: %w", p, err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("pod %s: %s", p, a.Err)
	}
	return a, nil
}

// Stop ends the pod's process, and with it its network namespace.
func (p *Pod) Stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// Shell runs commands in order.
func Shell(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	return nil
}
