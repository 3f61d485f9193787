// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/runtime"
)

// gate records its calls.
type gate struct {
	mu     sync.Mutex
	refuse error
	block  bool
	live   map[string]policy.Sandbox
	events chan string
}

func newGate() *gate {
	return &gate{live: make(map[string]policy.Sandbox), events: make(chan string, 100)}
}

func (g *gate) Admit(ctx context.Context, b policy.Sandbox) (bool, error) {
	g.mu.Lock()
	g.live[b.ID] = b
	refuse, block := g.refuse, g.block
	g.mu.Unlock()
	if block {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return true, refuse
}

func (g *gate) Release(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.live, id)
}

func (g *gate) Resync(live []policy.Sandbox) int {
	g.mu.Lock()
	clear(g.live)
	for _, b := range live {
		g.live[b.ID] = b
	}
	g.mu.Unlock()
	g.events <- "resync"
	return 0
}

func (g *gate) Doubt() { g.events <- "doubt" }

// sandbox returns the last report about a sandbox.
func (g *gate) sandbox(id string) (policy.Sandbox, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.live[id]
	return b, ok
}

// await waits for an event of the gate.
func (g *gate) await(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-g.events:
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s", want)
	}
}

// awaitHooks waits until the runtime calls the plugin's hooks, shortly after it has reported the existing sandboxes.
func (g *gate) awaitHooks(t *testing.T, r *adaptation.Adaptation) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_ = r.RunPodSandbox(t.Context(), &adaptation.RunPodSandboxRequest{Pod: pod("probe", 1, "10.9.9.9")})
		if _, ok := g.sandbox("probe"); ok {
			g.Release("probe")
			return
		}
	}
	t.Fatal("the runtime calls no hooks")
}

// pod returns a sandbox as a runtime reports it.
func pod(id string, pid uint32, ips ...string) *adaptation.PodSandbox {
	return &adaptation.PodSandbox{
		Id: id, Name: "web", Namespace: "shop", Uid: "u", Pid: pid, Ips: ips,
		Labels: map[string]string{"app": "web", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop",
			"io.kubernetes.pod.uid": "u"},
		Linux: &adaptation.LinuxPodSandbox{Namespaces: []*adaptation.LinuxNamespace{{Type: "network",
			Path: "/run/netns/" + id}}},
	}
}

// startRuntime starts NRI's own side of a runtime, which has these sandboxes.
func startRuntime(t *testing.T, socket string, pods ...*adaptation.PodSandbox) *adaptation.Adaptation {
	t.Helper()
	var r *adaptation.Adaptation
	sync := func(ctx context.Context, f adaptation.SyncCB) error {
		_, err := f(ctx, pods, nil)
		return err
	}
	update := func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	}
	none := filepath.Join(t.TempDir(), "none")
	r, err := adaptation.New("test", "0", sync, update,
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(none), adaptation.WithPluginConfigPath(none))
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// proxy sits between a plugin and a runtime, so that their connection can end as if one of them were killed: NRI's
// server keeps its connections when it is stopped.
type proxy struct {
	mu    sync.Mutex
	conns []net.Conn
}

// startProxy forwards connections from one socket to another.
func startProxy(t *testing.T, from, to string) *proxy {
	t.Helper()
	l, err := net.Listen("unix", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("unix", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, a, b)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(a, b); _ = a.Close() }()
			go func() { _, _ = io.Copy(b, a); _ = b.Close() }()
		}
	}()
	return p
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// startPlugin starts a plugin for a socket.
func startPlugin(t *testing.T, config runtime.Config) *runtime.Plugin {
	t.Helper()
	config.Log, config.Node = slog.New(slog.DiscardHandler), "node"
	p := runtime.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

// TestPlugin registers with NRI's own server: existing sandboxes, those that come and go, and what happens when netpold
// does not admit a pod.
func TestPlugin(t *testing.T) {
	dir := t.TempDir()
	socket, back := filepath.Join(dir, "nri.sock"), filepath.Join(dir, "back.sock")
	g := newGate()
	p := startPlugin(t, runtime.Config{Gate: g, Socket: socket, Timeout: 200 * time.Millisecond})
	if p.Problem() == "" {
		t.Error("no problem without a runtime")
	}
	host := pod("host", 7)
	host.Linux.Namespaces = nil
	between := startProxy(t, socket, back)
	r := startRuntime(t, back, pod("old", 5, "10.0.0.1", "fd00::1"), pod("stopped", 0, "10.0.0.2"), host)
	g.await(t, "resync")
	if b, ok := g.sandbox("old"); !ok || len(b.IPs) != 2 || b.Name != "web" || b.Node != "node" || len(b.Labels) != 1 {
		t.Errorf("the sandbox that there was: %+v, %t", b, ok)
	}
	for _, id := range []string{"stopped", "host"} {
		if _, ok := g.sandbox(id); ok {
			t.Errorf("%s is no pod with addresses of its own", id)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); p.Problem() != "" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if p.Problem() != "" || !p.Tried() {
		t.Errorf("connected: %q, %t", p.Problem(), p.Tried())
	}
	run := func(pod *adaptation.PodSandbox) error {
		return r.RunPodSandbox(t.Context(), &adaptation.RunPodSandboxRequest{Pod: pod})
	}
	g.awaitHooks(t, r)
	if err := run(pod("new", 9, "10.0.0.3")); err != nil {
		t.Error(err)
	}
	if _, ok := g.sandbox("new"); !ok {
		t.Error("a new pod was not admitted")
	}
	if err := r.StopPodSandbox(t.Context(),
		&adaptation.StopPodSandboxRequest{Pod: pod("new", 0, "10.0.0.3")}); err != nil {
		t.Error(err)
	}
	if _, ok := g.sandbox("new"); ok {
		t.Error("a pod that stopped was not released")
	}
	g.block = true
	if err := run(pod("late", 11, "10.0.0.4")); err == nil || !strings.Contains(err.Error(), "shop/web") {
		t.Errorf("a pod that was not admitted starts: %v", err)
	}
	if _, ok := g.sandbox("late"); ok {
		t.Error("a pod that does not start keeps its address")
	}
	g.block = false
	if err := run(pod("without", 12)); err != nil || p.Problem() == "" {
		t.Errorf("a runtime that tells no addresses: %v, problem %q", err, p.Problem())
	}
	r.Stop()
	between.cut()
	g.await(t, "doubt")
	r = startRuntime(t, back, pod("next", 5, "10.0.0.5"))
	g.await(t, "resync")
	if _, ok := g.sandbox("next"); !ok {
		t.Error("after the runtime was started again")
	}
	r.Stop()
}

// TestPluginOpen: with --gate=open a pod that cannot be admitted starts.
func TestPluginOpen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	g := newGate()
	g.refuse = errors.New("no")
	startPlugin(t, runtime.Config{Gate: g, Socket: socket, Timeout: time.Second, Open: true})
	r := startRuntime(t, socket)
	defer r.Stop()
	g.await(t, "resync")
	g.awaitHooks(t, r)
	if err := r.RunPodSandbox(t.Context(),
		&adaptation.RunPodSandboxRequest{Pod: pod("new", 9, "10.0.0.3")}); err != nil {
		t.Error(err)
	}
	if _, ok := g.sandbox("new"); !ok {
		t.Error("it starts, and its address is not known")
	}
}
