// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// ServeHTTP is the API server's exec, of which it knows only `agnhost connect --timeout=… --protocol=… HOST:PORT`.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var namespace, pod string
	path := strings.NewReplacer("/", " ").Replace(r.URL.Path)
	command := r.URL.Query()["command"]
	_, err := fmt.Sscanf(path, " api v1 namespaces %s pods %s exec", &namespace, &pod)
	if err != nil || len(command) != 5 {
		http.Error(w, "this server can only connect", http.StatusNotFound)
		return
	}
	stderr := ""
	allowed, err := c.connect(r.Context(), types.NamespacedName{Namespace: namespace, Name: pod}, command)
	switch {
	case err != nil:
		c.Errorf("%s/%s %q: %v", namespace, pod, command, err)
		stderr = err.Error()
	case !allowed:
		stderr = "TIMEOUT\n"
	}
	if err := answer(w, r, stderr); err != nil {
		c.Errorf("exec: %v", err)
	}
}

// answer ends an exec, with what it wrote to its standard error.
func answer(w http.ResponseWriter, r *http.Request, stderr string) error {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return err
	}
	streams := make(chan httpstream.Stream, 3)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return errors.New("no stream")
	}
	defer func() { _ = conn.Close() }()
	var status httpstream.Stream
	for range 3 {
		select {
		case s := <-streams:
			switch s.Headers().Get(corev1.StreamType) {
			case corev1.StreamTypeError:
				status = s
				continue
			case corev1.StreamTypeStderr:
				if _, err := io.WriteString(s, stderr); err != nil {
					return err
				}
			}
			if err := s.Close(); err != nil {
				return err
			}
		case <-conn.CloseChan():
			return errors.New("the client has gone")
		}
	}
	if _, err := io.WriteString(status, `{"metadata": {}, "status": "Success"}`); err != nil {
		return err
	}
	_ = status.Close() // the client may have closed the connection already
	<-conn.CloseChan()
	return nil
}

// connect says whether a pod can connect, given the current objects. The policies' own text, the table and the kernel
// must agree.
func (c *cluster) connect(ctx context.Context, pod types.NamespacedName, command []string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	now, err := c.objects(ctx)
	if err != nil {
		return false, err
	}
	to, err := netip.ParseAddrPort(command[4])
	if err != nil {
		return false, err
	}
	protocols := map[string]uint8{"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
	proto := protocols[strings.TrimPrefix(command[3], "--protocol=")]
	f := policy.Flow{Dst: to.Addr(), DstPort: to.Port(), Proto: proto}
	for _, p := range now.Pods {
		if p.NamespacedName == pod {
			f.Src = p.IPs[0]
		}
	}
	s := translate.New(c.nodes[0].Name, translate.Options{Limits: content.DefaultLimits()})
	for _, err := range s.Add(now) {
		return false, err
	}
	table := s.Complete()
	trail, err := trace.Follow(table, frame.PacketOf(f))
	if err != nil {
		return false, err
	}
	forwarded, err := c.kernel.forwards(ctx, table.Take(), f)
	if err != nil {
		return false, err
	}
	answer := now.Explain(f)
	if text := trail.Verdict.Kind == nft.Accept; answer.Allowed != text || text != forwarded {
		return false, fmt.Errorf("the table says %t, the kernel %t, and the policies' text\n%s", text, forwarded,
			now.Describe(answer))
	}
	return forwarded, nil
}

// objects returns the cluster as netpold would read it.
func (c *cluster) objects(ctx context.Context) (*policy.Cluster, error) {
	var namespaces corev1.NamespaceList
	var pods corev1.PodList
	var policies networkingv1.NetworkPolicyList
	var tiers unstructured.UnstructuredList
	tiers.SetGroupVersionKind(v1alpha2.SchemeGroupVersion.WithKind("ClusterNetworkPolicyList"))
	err := errors.Join(c.client.List(ctx, &namespaces), c.client.List(ctx, &pods), c.client.List(ctx, &policies),
		c.client.List(ctx, &tiers))
	if err != nil {
		return nil, err
	}
	now := &policy.Cluster{Namespaces: make(map[string]map[string]string), NodePeers: c.nodes}
	for _, n := range namespaces.Items {
		now.Namespaces[n.Name] = map[string]string{corev1.LabelMetadataName: n.Name} // as the API server does
		maps.Copy(now.Namespaces[n.Name], n.Labels)
	}
	for _, p := range pods.Items {
		pod, _, err := policy.PodFrom(&p)
		if err != nil {
			return nil, err
		}
		now.Pods = append(now.Pods, pod)
	}
	for _, np := range policies.Items {
		now.Policies = append(now.Policies, &np)
	}
	for _, u := range tiers.Items {
		text, err := u.MarshalJSON()
		if err != nil {
			return nil, err
		}
		p, err := policy.ReadClusterPolicy(text)
		if err != nil {
			return nil, err
		}
		now.ClusterPolicies = append(now.ClusterPolicies, p)
	}
	return now, errors.Join(now.Faults()...)
}

// enforcer is a network namespace with the table of a node.
type enforcer struct {
	questions chan question
}

type question struct {
	ctx    context.Context
	tx     *nft.Transaction
	flow   policy.Flow
	answer chan<- func() (bool, error)
}

// newEnforcer starts one, with its own thread in the namespace.
func newEnforcer(t *testing.T) *enforcer {
	t.Helper()
	e := &enforcer{questions: make(chan question)}
	begun, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		p, err := prober.Open()
		var conn *kernel.Conn
		if err == nil {
			conn, err = kernel.Open(kernel.Config{})
		}
		if begun <- err; err != nil {
			return
		}
		for q := range e.questions {
			forwarded, err := forward(p, conn, q)
			q.answer <- func() (bool, error) { return forwarded, err }
		}
		_, _ = conn.Close(), p.Close()
	}()
	if err := <-begun; err != nil {
		if os.Getenv("CI") == "" && errors.Is(err, fs.ErrPermission) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(e.questions)
		<-ended
	})
	return e
}

// forwards says whether the kernel forwards a new connection, with a table made from scratch.
func (e *enforcer) forwards(ctx context.Context, tx *nft.Transaction, f policy.Flow) (bool, error) {
	answer := make(chan func() (bool, error), 1)
	e.questions <- question{ctx, tx, f, answer}
	return (<-answer)()
}

func forward(p *prober.Prober, conn *kernel.Conn, q question) (bool, error) {
	if _, err := conn.Apply(q.ctx, q.tx); err != nil {
		return false, err
	}
	if err := p.Forget(); err != nil {
		return false, err
	}
	f := q.flow
	out, err := p.Run([]prober.Probe{{Src: f.Src, Dst: f.Dst, Proto: f.Proto, DstPort: f.DstPort}})
	if err != nil {
		return false, err
	}
	return out[0], nil
}
