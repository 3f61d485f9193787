// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Gate takes the runtime's news of sandboxes; a watch.Loop is one. Its methods may be called by several goroutines at
// once.
type Gate interface {
	// Admit takes a new sandbox and waits until the kernel has its rules, or ctx is done. Known says whether the API
	// has reported the pod.
	Admit(ctx context.Context, b policy.Sandbox) (known bool, err error)
	// Release forgets a sandbox, whose containers have stopped.
	Release(id string)
	// Resync replaces all known sandboxes by the live ones, and returns how many have an address that was not known to
	// be theirs.
	Resync(live []policy.Sandbox) (unprotected int)
	// Doubt says that the runtime is no longer heard.
	Doubt()
}

// DefaultSocket is where runtimes listen for plugins. Mount its folder: a runtime that starts makes a new socket.
const DefaultSocket = api.DefaultSocketPath

// The name and index under which the plugin registers. Plugins with a lower index are called first.
const (
	pluginName  = "netpold"
	pluginIndex = "90"
)

// Config is what a plugin needs.
type Config struct {
	Gate    Gate
	Node    string // of the sandboxes' pods
	Socket  string
	Timeout time.Duration // of one answer; less than the runtime waits
	Open    bool          // a pod that cannot be admitted in time starts anyway, unprotected
	Log     *slog.Logger
}

// Plugin is netpold as the runtime sees it.
type Plugin struct {
	Config
	metrics *metrics

	mu        sync.Mutex
	serial    uint64
	connected bool
	ever      bool
	told      bool   // the lack of a connection has been logged
	problem   string // why there is none, or what the runtime lacks; "" if nothing
}

// New returns a plugin that is not connected.
func New(config Config) *Plugin {
	return &Plugin{Config: config, metrics: newMetrics(), problem: "it has not answered yet"}
}

// Delays between attempts to connect.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 10 * time.Second
	settled    = 30 * time.Second // a connection that lasts this long is not a failed attempt
)

// Run connects to the runtime, and again whenever the connection ends, until ctx ends. A nil plugin has no runtime.
func (p *Plugin) Run(ctx context.Context) {
	if p == nil {
		return
	}
	backoff := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := p.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		p.lost(err)
		if time.Since(begun) > settled {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// connection runs one connection to the runtime until it ends.
func (p *Plugin) connection(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := stub.New(&handler{p},
		stub.WithPluginName(pluginName), stub.WithPluginIdx(pluginIndex), stub.WithSocketPath(p.Socket),
		stub.WithLogger(logger{p.Log}),
		// A runtime that knows this option fails a pod without an answer, and keeps the plugin (nri 0.12.4).
		stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: !p.Open, KeepConnected: true}),
		stub.WithOnClose(cancel))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// lost notes that there is no connection, and logs it once for each that there was.
func (p *Plugin) lost(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		err = errors.New("the runtime ended the connection")
	}
	p.mu.Lock()
	was, first := p.connected, !p.told
	p.connected, p.told, p.problem = false, true, err.Error()
	p.mu.Unlock()
	p.metrics.connected.Set(0)
	switch {
	case was:
		p.Gate.Doubt()
		p.Log.Warn("lost the connection to the container runtime; "+Unprotected, "err", err)
	case first:
		p.Log.Warn("cannot reach the container runtime; "+Unprotected, "socket", p.Socket, "err", err)
	}
}

// Unprotected is the effect if the runtime does not report new pods.
const Unprotected = "new pods are unprotected for about a second on this node"

// Problem says why new pods are unprotected, or "".
func (p *Plugin) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// Tried says whether there has been a connection, or an attempt that failed.
func (p *Plugin) Tried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ever || p.told
}

// handler receives the runtime's calls; stub finds its methods by name.
type handler struct{ *Plugin }

// Synchronize takes the sandboxes that exist when the connection is made. Those without a process have stopped, and
// their addresses may belong to others now.
func (h *handler) Synchronize(_ context.Context, pods []*api.PodSandbox,
	_ []*api.Container) ([]*api.ContainerUpdate, error) {
	var live []policy.Sandbox
	var problem string
	for _, pod := range pods {
		if pod.GetPid() == 0 || !hasNetwork(pod) {
			continue
		}
		b, err := h.sandbox(pod)
		if err != nil {
			problem = err.Error()
			continue
		}
		live = append(live, b)
	}
	unprotected := h.Gate.Resync(live)
	h.metrics.unprotected.Add(float64(unprotected))
	h.mu.Lock()
	h.connected, h.ever, h.problem = true, true, problem
	h.mu.Unlock()
	h.metrics.connected.Set(1)
	h.Log.Info("connected to the container runtime; new pods wait for their policies", "pods", len(live),
		"unprotected", unprotected)
	return nil, nil
}

// RunPodSandbox admits a pod: no container of it starts before this returns.
func (h *handler) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	if !hasNetwork(pod) {
		return nil
	}
	begun := time.Now()
	name := types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetName()}
	b, err := h.sandbox(pod)
	if err != nil {
		h.mu.Lock()
		h.problem = err.Error()
		h.mu.Unlock()
		h.metrics.result("unknown")
		h.Log.Warn("pod starts unprotected", "pod", name, "err", err)
		return nil // a second attempt would not help
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	known, err := h.Gate.Admit(ctx, b)
	h.metrics.seconds.Observe(time.Since(begun).Seconds())
	switch {
	case err == nil && known:
		h.metrics.result("admitted")
	case err == nil:
		h.metrics.result("labels")
		h.Log.Debug("pod admitted by its sandbox's labels; the API does not know it yet", "pod", name)
	case h.Open:
		h.metrics.result("open")
		h.metrics.unprotected.Inc()
		h.Log.Warn("pod starts unprotected", "pod", name, "err", err)
	default:
		h.Gate.Release(b.ID) // its next attempt has another sandbox
		h.metrics.result("refused")
		h.Log.Warn("pod held back until its policies are in force; the kubelet retries", "pod", name, "err", err)
		return fmt.Errorf("netpold: pod %s: %w", name, err)
	}
	return nil
}

// StopPodSandbox releases a pod's addresses: its containers have stopped, and the CNI frees them next.
func (h *handler) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	h.Gate.Release(pod.GetId())
	return nil
}

// RemovePodSandbox is StopPodSandbox for a sandbox that was never stopped.
func (h *handler) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	h.Gate.Release(pod.GetId())
	return nil
}

// hasNetwork says whether the pod has its own network namespace, and so addresses that policy can use.
func hasNetwork(pod *api.PodSandbox) bool {
	return slices.ContainsFunc(pod.GetLinux().GetNamespaces(), func(n *api.LinuxNamespace) bool {
		return n.GetType() == "network" && n.GetPath() != ""
	})
}

// sandbox returns what policy needs to know about a sandbox.
func (h *handler) sandbox(pod *api.PodSandbox) (policy.Sandbox, error) {
	if len(pod.GetIps()) == 0 {
		return policy.Sandbox{},
			errors.New("the container runtime does not report pod addresses (containerd 2.1 and CRI-O 1.32 do)")
	}
	h.mu.Lock()
	h.serial++
	b := policy.Sandbox{
		ID: pod.GetId(), NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetName()},
		Node: h.Node, Labels: labelsOf(pod), Serial: h.serial,
	}
	h.mu.Unlock()
	for _, text := range pod.GetIps() {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return policy.Sandbox{}, fmt.Errorf("the container runtime reports %q as a pod's address", text)
		}
		b.IPs = append(b.IPs, a.Unmap().WithZone(""))
	}
	return b, nil
}

// labelsOf returns the labels of the pod without those that the kubelet adds for the runtime.
func labelsOf(pod *api.PodSandbox) map[string]string {
	labels := make(map[string]string)
	for key, value := range pod.GetLabels() {
		switch key {
		case "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid":
		default:
			labels[key] = value
		}
	}
	return labels
}

// logger logs the library's lines at debug level.
type logger struct{ log *slog.Logger }

func (l logger) line(ctx context.Context, format string, args []any) {
	l.log.DebugContext(ctx, "NRI: "+fmt.Sprintf(format, args...))
}

func (l logger) Debugf(ctx context.Context, format string, args ...any) { l.line(ctx, format, args) }
func (l logger) Infof(ctx context.Context, format string, args ...any)  { l.line(ctx, format, args) }
func (l logger) Warnf(ctx context.Context, format string, args ...any)  { l.line(ctx, format, args) }
func (l logger) Errorf(ctx context.Context, format string, args ...any) { l.line(ctx, format, args) }
