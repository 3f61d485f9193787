// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Bounds on the parts of a line that others choose.
const (
	maxPolicies = 8
	maxNearest  = 400 // bytes
)

// Record is a denied connection: who, by which policies and why, all as of when it was seen. Its JSON form is a line of
// the endpoint /drops.
type Record struct {
	Time      time.Time `json:"time"`      // of the line
	Direction string    `json:"direction"` // ingress or egress
	Protocol  string    `json:"protocol"`  // as in nft(8)
	Src       Peer      `json:"src"`
	Dst       Peer      `json:"dst"`
	ICMPType  *uint8    `json:"icmpType,omitempty"`
	ICMPCode  *uint8    `json:"icmpCode,omitempty"`
	Tier      string    `json:"tier,omitempty"`  // Admin or Baseline, where a ClusterNetworkPolicy denies
	Policies  []string  `json:"policies"`        // that isolate the pod; of many, the first ones
	Count     int       `json:"count"`           // logged packets that the line stands for
	Audit     bool      `json:"audit,omitempty"` // would be denied if audited policies were enforced
	Text      string    `json:"text"`

	key key
}

// Peer is an end of a denied connection.
type Peer struct {
	Address   netip.Addr `json:"address"`
	Port      uint16     `json:"port,omitempty"`
	Pod       string     `json:"pod,omitempty"`   // as namespace/name
	Owner     string     `json:"owner,omitempty"` // the workload, as kind/name
	Namespace string     `json:"namespace,omitempty"`

	note string // about an address that no pod has
}

// Isolated returns the end that the policies isolate.
func (r *Record) Isolated() Peer {
	if r.Direction == policy.Egress.String() {
		return r.Src
	}
	return r.Dst
}

// Kind is the same for records of equal source, destination, protocol, port, direction and policies.
func (r *Record) Kind() string { return fmt.Sprint(r.key) }

// key returns what the packet shares with others like it.
func (p Packet) key() key { return key{p.Src, p.Dst, p.Proto, p.DstPort, p.Prefix} }

// denier is what denies packets, or would: an isolation, or a rule of a ClusterNetworkPolicy.
type denier interface {
	direction() policy.Direction
	// flow is what the policies are asked about a packet.
	flow(Packet) policy.Flow
	// note notes in a record what denied its packet.
	note(*Record)
	// why says why it denies a flow, or that it no longer does. Without an excerpt it says who isolates the pod.
	why(r *Record, flow policy.Flow, excerpt *policy.Cluster) string
}

// denierOf returns what a chain denies by; nil if it is none of ours.
func denierOf(s *translate.State, chain string) denier {
	if ref, ok := s.TierRuleOf(chain); ok {
		return tierRule{ref, frame.OnlyTells(chain)}
	}
	if i, ok := s.IsolationOf(chain); ok {
		return isolation(i)
	}
	return nil
}

// resolve looks up, in one look at the state, whom a packet concerns and, if there is room for a line, why the policies
// deny it; otherwise the record has no text. It is false for a packet that no chain of ours logged.
func (l *Log) resolve(p Packet) (r Record, ok bool) {
	if !p.Src.IsValid() || !p.Dst.IsValid() {
		return Record{}, false
	}
	room := l.window.room(p.key())
	if d, unknown := frame.UnknownPod(p.Prefix); unknown {
		return l.unknown(p, d), true
	}
	var by denier
	var flow policy.Flow
	var excerpt *policy.Cluster
	synced := l.config.View(func(s *translate.State) {
		if by = denierOf(s, p.Prefix); by == nil {
			return
		}
		r, flow = newRecord(s, p, by.direction()), by.flow(p)
		if room && !p.Partial { // deciding about a partial packet would take what is not known
			excerpt = s.Excerpt(flow)
		}
	})
	if by == nil {
		return Record{}, false
	}
	by.note(&r)
	r.external(synced)
	if room {
		r.Text = fmt.Sprintf("%s from %s to %s %s", p.text(), r.Src.text(p), r.Dst.text(p), by.why(&r, flow, excerpt))
	}
	return r, true
}

// newRecord returns the record of one packet with the ends that the state knows, without policies and text.
func newRecord(s *translate.State, p Packet, d policy.Direction) Record {
	r := Record{
		Direction: d.String(), Protocol: nft.ProtocolName(p.Proto), Src: peerAt(s, p.Src), Dst: peerAt(s, p.Dst),
		Policies: []string{}, Count: 1, key: p.key(),
	}
	r.setService(p)
	return r
}

// unknown is resolve for a packet that the guard dropped.
func (l *Log) unknown(p Packet, d policy.Direction) Record {
	var r Record
	guarded := false
	l.config.View(func(s *translate.State) {
		r = newRecord(s, p, d)
		guard := s.Guard()
		guarded = guard.Wanted().On()
	})
	if !l.window.room(p.key()) {
		return r
	}
	end := r.Isolated()
	why := fmt.Sprintf("unknown pod %s blocked: no pod of this node is known to have that address (yet)", end.Address)
	switch {
	case end.Pod != "":
		why = fmt.Sprintf("unknown pod %s was blocked: %s is known to have that address now", end.Address, end.Pod)
	case !guarded:
		why = fmt.Sprintf("unknown pod %s was blocked: unknown pods are allowed now", end.Address)
	}
	r.Text = fmt.Sprintf("%s from %s to %s: %s", p.text(), r.Src.text(p), r.Dst.text(p), why)
	return r
}

// external notes that no pod has the address at the far end; the isolated end is a pod, or was.
func (r *Record) external(synced bool) { //nolint:revive // a fact
	other := &r.Src
	if r.Direction == policy.Egress.String() {
		other = &r.Dst
	}
	if synced && other.Pod == "" && other.note == "" {
		other.note = "external"
	}
}

// setService sets the ports or ICMP type of a packet, as far as they are known.
func (r *Record) setService(p Packet) {
	switch {
	case p.Partial:
	case hasPorts(p.Proto):
		r.Src.Port, r.Dst.Port = p.SrcPort, p.DstPort
	case isICMP(p.Proto):
		r.ICMPType, r.ICMPCode = &p.ICMPType, &p.ICMPCode
	}
}

// peerAt returns the end that has an address.
func peerAt(s *translate.State, a netip.Addr) Peer {
	p := Peer{Address: a}
	if pod, ok := s.PodAt(a); ok {
		p.Pod, p.Owner, p.Namespace = pod.String(), pod.Owner, pod.Namespace
	} else if node, ok := s.HostAt(a); ok {
		p.note = "node " + node
	}
	return p
}

// text is the end in the line of a packet.
func (e Peer) text(p Packet) string {
	address := e.Address.String()
	if hasPorts(p.Proto) && !p.Partial {
		address = netip.AddrPortFrom(e.Address, e.Port).String()
	}
	switch {
	case e.Pod != "":
		return fmt.Sprintf("%s (%s)", e.Pod, address)
	case e.note != "":
		return fmt.Sprintf("%s (%s)", address, e.note)
	}
	return address
}

// attrs are the fields of the line.
func (r *Record) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("direction", r.Direction), slog.String("protocol", r.Protocol),
		slog.String("src", r.Src.Address.String()), slog.String("dst", r.Dst.Address.String()),
	}
	if r.Dst.Port != 0 || r.Src.Port != 0 {
		attrs = append(attrs, slog.Int("srcPort", int(r.Src.Port)), slog.Int("dstPort", int(r.Dst.Port)))
	}
	if r.ICMPType != nil {
		attrs = append(attrs, slog.Int("icmpType", int(*r.ICMPType)), slog.Int("icmpCode", int(*r.ICMPCode)))
	}
	for _, end := range []struct {
		name string
		Peer
	}{{"src", r.Src}, {"dst", r.Dst}} {
		if end.Pod != "" {
			attrs = append(attrs, slog.String(end.name+"Pod", end.Pod))
		}
		if end.Owner != "" {
			attrs = append(attrs, slog.String(end.name+"Owner", end.Owner))
		}
	}
	if r.Audit {
		attrs = append(attrs, slog.Bool("audit", true))
	}
	return append(attrs, slog.Any("policies", r.Policies), slog.Int("count", r.Count))
}

// subject is the isolated end, as of the direction.
func (r *Record) subject() string {
	isolated := r.Isolated()
	return fmt.Sprintf("%s of %s", r.Direction, cmp.Or(isolated.Pod, isolated.Address.String()))
}

// now returns what the policies say of a flow to or from the isolated pod, and false if it no longer has the address.
func (r *Record) now(flow policy.Flow, excerpt *policy.Cluster) (policy.Decision, bool) {
	explanation := excerpt.Explain(flow)
	now := explanation.Ingress
	if r.Direction == policy.Egress.String() {
		now = explanation.Egress
	}
	isolated := r.Isolated().Pod
	return now, now.Pod != nil && (isolated == "" || now.Pod.String() == isolated)
}

// isolation denies what no rule of its policies allows.
type isolation frame.Isolation

func (i isolation) direction() policy.Direction { return i.Direction }
func (isolation) flow(p Packet) policy.Flow     { return p.Flow }
func (i isolation) note(r *Record)              { r.Policies, r.Audit = PolicyNames(frame.Isolation(i)), i.Audit }

func (i isolation) why(r *Record, flow policy.Flow, excerpt *policy.Cluster) string {
	is, was := "blocked: %s is isolated by %s", "was blocked: %s was isolated by %s"
	if i.Audit {
		is, was = "would be blocked: %s is audited by %s", "would have been blocked: %s was audited by %s"
	}
	subject, policies := r.subject(), strings.Join(r.Policies, ", ")
	plain := fmt.Sprintf(is+" and no rule allows it", subject, policies)
	if excerpt == nil {
		return plain
	}
	now, there := r.now(flow, excerpt)
	was = fmt.Sprintf(was, subject, policies)
	denied := !now.Allowed
	if i.Audit {
		denied, excerpt = now.WouldDeny(), excerpt.AllEnforced()
	}
	switch {
	case !there:
		return was + "; the pod no longer has the address"
	case !denied && i.Audit && !now.Allowed:
		return was + "; the current policies block it"
	case !denied:
		return was + "; the current policies allow it"
	case i.Audit:
		now = *now.Audit
	case now.Quarantine != "":
		return fmt.Sprintf("blocked: %s is isolated by %s; quarantined, nothing is allowed: %s", subject, policies,
			now.Quarantine)
	}
	if rule := now.OverLimit; rule != nil {
		return fmt.Sprintf("%s (%s would allow it, but is over a limit)", plain, rule)
	}
	near := excerpt.Nearest(flow, i.Direction)
	if near == nil {
		return plain + " (there are no rules)"
	}
	return fmt.Sprintf("%s (nearest: %s: %s)", plain, near.RuleRef, short(near.Reason))
}

// PolicyNames names the first few policies of an isolation.
func PolicyNames(i frame.Isolation) []string {
	named := i.Policies[:min(len(i.Policies), maxPolicies)]
	names := make([]string, 0, len(named)+1)
	for _, p := range named {
		names = append(names, frame.PolicyName(p))
	}
	if more := i.More + len(i.Policies) - len(named); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return names
}

// text says what was dropped.
func (p Packet) text() string {
	const echo4, echo6 = 8, 128
	switch {
	case p.Partial:
		return strings.ToUpper(nft.ProtocolName(p.Proto)) + " packet of unknown port"
	case p.Proto == nft.TCP && p.Opens:
		return "TCP connection"
	case p.Proto == nft.ICMP && p.ICMPType == echo4:
		return "ICMP echo request"
	case p.Proto == nft.ICMPv6 && p.ICMPType == echo6:
		return "ICMPv6 echo request"
	case p.Proto == nft.ICMP:
		return "ICMP message of type " + strconv.Itoa(int(p.ICMPType))
	case p.Proto == nft.ICMPv6:
		return "ICMPv6 message of type " + strconv.Itoa(int(p.ICMPType))
	case hasPorts(p.Proto):
		return strings.ToUpper(nft.ProtocolName(p.Proto)) + " packet"
	}
	return "packet of protocol " + nft.ProtocolName(p.Proto)
}

func hasPorts(proto uint8) bool { return proto == nft.TCP || proto == nft.UDP || proto == nft.SCTP }

func isICMP(proto uint8) bool { return proto == nft.ICMP || proto == nft.ICMPv6 }
