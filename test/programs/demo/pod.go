// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nodeName is the demo's node.
const nodeName = "demo"

// dialTimeout is how long a client waits for an answer: drops are silent.
const dialTimeout = 600 * time.Millisecond

// pod is one pod of a story, and the process in its network namespace.
type pod struct {
	namespace, name string
	labels          string // as YAML flow mapping
	address         string
	ports           []int // that it serves

	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

func (p *pod) String() string { return p.namespace + "/" + p.name }

// request asks the process in a pod to run commands there, to serve ports, or to reach addresses.
type request struct {
	Run    []string `json:",omitempty"`
	Listen []int    `json:",omitempty"`
	Dial   []string `json:",omitempty"`
}

// answer is the answer to a request.
type answer struct {
	Err     string `json:",omitempty"`
	Reached []bool `json:",omitempty"` // in the order of Dial
}

// servePod is the process in a pod: it answers requests.
func servePod(ctx context.Context, in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		var a answer
		if err := r.prepare(ctx); err != nil {
			a.Err = err.Error()
		}
		a.Reached = dial(r.Dial)
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// prepare runs the commands and starts the servers.
func (r request) prepare(ctx context.Context) error {
	if err := shell(ctx, r.Run...); err != nil {
		return err
	}
	for _, port := range r.Listen {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		go greet(l)
	}
	return nil
}

// dial tries all addresses at once and says which of them answer.
func dial(addresses []string) []bool {
	reached := make([]bool, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp", address, dialTimeout)
			if err != nil {
				return
			}
			defer conn.Close() //nolint:errcheck // only read from
			_ = conn.SetDeadline(time.Now().Add(dialTimeout))
			_, err = bufio.NewReader(conn).ReadString('\n')
			reached[i] = err == nil
		})
	}
	wg.Wait()
	return reached
}

// greet answers every connection with a line.
func greet(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintln(conn, "hello")
		_ = conn.Close()
	}
}

// start makes the pod's network namespace, its veth pair and its servers.
func (p *pod) start(ctx context.Context, veth string) error {
	p.cmd = again(ctx, rolePod)
	p.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	p.answers = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start pod %s: %w", p, err)
	}
	if err := shell(ctx,
		fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", veth, p.cmd.Process.Pid),
		"ip link set "+veth+" up",
		"ip route add "+p.address+"/32 dev "+veth,
	); err != nil {
		return fmt.Errorf("connect pod %s: %w", p, err)
	}
	// The node answers for every address, and at once, as with CNIs that have point-to-point links.
	for sysctl, value := range map[string]string{"conf/" + veth + "/proxy_arp": "1",
		"neigh/" + veth + "/proxy_delay": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+sysctl, []byte(value), 0); err != nil {
			return fmt.Errorf("connect pod %s: %w", p, err)
		}
	}
	_, err = p.ask(request{Listen: p.ports, Run: []string{
		"ip link set lo up",
		"ip addr add " + p.address + "/32 dev eth0",
		"ip link set eth0 up",
		"ip route add default dev eth0",
	}})
	return err
}

// ask sends the pod's process a request and waits for its answer.
func (p *pod) ask(r request) (answer, error) {
	var a answer
	if err := json.NewEncoder(p.in).Encode(r); err != nil {
		return a, fmt.Errorf("ask pod %s: %w", p, err)
	}
	if err := p.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("pod %s does not answer: %w", p, err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("pod %s: %s", p, a.Err)
	}
	return a, nil
}

// stop ends the pod's process, and with it its network namespace.
func (p *pod) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// shell runs commands one after the other.
func shell(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	return nil
}
