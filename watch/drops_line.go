// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Bounds of what a line has of others' choosing.
const (
	maxNamedPolicies = 8
	maxNearest       = 400 // bytes
)

// dropParty is who a drop is about, at its time.
type dropParty struct {
	isolation translate.Isolation // that denied it
	src, dst  dropEnd
}

// dropEnd is the pod at an end of a drop.
type dropEnd struct {
	pod      policy.Pod
	found    bool
	node     string // that has the address, if no pod does
	external bool   // nobody has it, for sure
}

// dropParty looks up who a drop is about.
func (l *Loop) dropParty(d Drop) dropParty {
	l.mu.Lock()
	defer l.mu.Unlock()
	isolation, _ := l.State.IsolationOf(d.Prefix)
	end := func(a netip.Addr) dropEnd {
		pod, found := l.State.PodAt(a)
		node, isNode := l.State.HostAt(a)
		return dropEnd{pod, found, node, !found && !isNode && l.status.Synced}
	}
	who := dropParty{isolation, end(d.Src), end(d.Dst)}
	if isolation.Direction == policy.Egress { // whoever is isolated is a pod, or was
		who.src.external = false
	} else {
		who.dst.external = false
	}
	return who
}

// isolated returns the end that is isolated, and its address.
func (p dropParty) isolated(d Drop) (dropEnd, netip.Addr) {
	if p.isolation.Direction == policy.Egress {
		return p.src, d.Src
	}
	return p.dst, d.Dst
}

// logDrop writes the line of an entry.
func (l *Loop) logDrop(e *dropEntry, suffix string) {
	r := l.dropRecord(e)
	l.Events.blocked(e, r.Text)
	r.Text += suffix
	l.Log.LogAttrs(context.Background(), slog.LevelInfo, r.Text, r.attrs()...)
	l.history.add(r)
}

// dropRecord returns what there is to say of an entry.
func (l *Loop) dropRecord(e *dropEntry) DropRecord {
	d, who := e.drop, e.who
	r := DropRecord{
		Time: time.Now(), Direction: who.isolation.Direction.String(), Protocol: nft.ProtocolName(d.Proto),
		Src: who.src.peer(d.Src), Dst: who.dst.peer(d.Dst),
		Policies: policyNames(who.isolation), Count: e.count,
	}
	switch {
	case d.Partial:
	case hasPorts(d.Proto):
		r.Src.Port, r.Dst.Port = d.SrcPort, d.DstPort
	case isICMP(d.Proto):
		r.ICMPType, r.ICMPCode = &d.ICMPType, &d.ICMPCode
	}
	r.Text = fmt.Sprintf("%s from %s to %s %s", packetText(d), who.src.text(d, d.Src, d.SrcPort), who.dst.text(d, d.Dst, d.DstPort),
		l.whyDropped(d, who, strings.Join(r.Policies, ", ")))
	return r
}

// attrs are the fields of the line.
func (r DropRecord) attrs() []slog.Attr {
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
		DropPeer
	}{{"src", r.Src}, {"dst", r.Dst}} {
		if end.Pod != "" {
			attrs = append(attrs, slog.String(end.name+"Pod", end.Pod))
		}
		if end.Owner != "" {
			attrs = append(attrs, slog.String(end.name+"Owner", end.Owner))
		}
	}
	return append(attrs, slog.Any("policies", r.Policies), slog.Int("count", r.Count))
}

// whyDropped says why the policies deny a drop, or that they do not any more.
func (l *Loop) whyDropped(d Drop, who dropParty, policies string) string {
	direction := who.isolation.Direction
	end, address := who.isolated(d)
	subject := fmt.Sprintf("ingress of %s", end.name(address))
	if direction == policy.Egress {
		subject = fmt.Sprintf("egress of %s", end.name(address))
	}
	plain := fmt.Sprintf("blocked: %s is isolated by %s and no rule allows it", subject, policies)
	if d.Partial { // what the policies say of it takes what is not known
		return plain
	}
	flow := policy.Flow{Src: d.Src, Dst: d.Dst, Proto: d.Proto, DstPort: d.DstPort, ICMPType: d.ICMPType}
	l.mu.Lock()
	excerpt := l.State.Excerpt(flow)
	l.mu.Unlock()
	explanation := excerpt.Explain(flow)
	now := explanation.Ingress
	if direction == policy.Egress {
		now = explanation.Egress
	}
	was := fmt.Sprintf("was blocked: %s was isolated by %s", subject, policies)
	switch {
	case now.Pod == nil || end.found && now.Pod.NamespacedName != end.pod.NamespacedName:
		return was + "; the pod does not have the address any more"
	case now.Allowed:
		return was + "; the policies of now allow it"
	case now.Quarantine != "":
		return fmt.Sprintf("blocked: %s is isolated by %s; quarantined, nothing is allowed: %s", subject, policies, now.Quarantine)
	}
	if rule := now.OverLimit; rule != nil {
		return fmt.Sprintf("%s (%s would allow it, but is over a limit)", plain, rule)
	}
	nearest := excerpt.Nearest(flow, direction)
	if nearest == nil {
		return plain + " (there are no rules)"
	}
	reason := nearest.Reason
	if len(reason) > maxNearest {
		reason = reason[:maxNearest] + "…"
	}
	return fmt.Sprintf("%s (nearest: %s: %s)", plain, nearest.RuleRef, reason)
}

// countPair counts a drop among the top pairs. The names are those of the moment when the pair is new.
func (l *Loop) countPair(d Drop, direction policy.Direction) {
	key := pairKey{d.Src, d.Dst, d.Proto, d.DstPort, direction.String()}
	l.history.count(key, func() DropPair {
		who := l.dropParty(d)
		p := DropPair{Direction: key.direction, Protocol: nft.ProtocolName(d.Proto), Src: who.src.peer(d.Src), Dst: who.dst.peer(d.Dst)}
		p.Dst.Port = d.DstPort
		return p
	})
}

// policyNames names the policies of an isolation, a few of them.
func policyNames(i translate.Isolation) []string {
	named := i.Policies[:min(len(i.Policies), maxNamedPolicies)]
	names := make([]string, 0, len(named)+1)
	for _, p := range named {
		names = append(names, p.String())
	}
	if more := i.More + len(i.Policies) - len(named); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return names
}

// name names the end in a sentence.
func (e dropEnd) name(a netip.Addr) string {
	if e.found {
		return e.pod.String()
	}
	return a.String()
}

// text is the end as the line has it.
func (e dropEnd) text(d Drop, a netip.Addr, port uint16) string {
	address := a.String()
	if hasPorts(d.Proto) && !d.Partial {
		address = netip.AddrPortFrom(a, port).String()
	}
	switch {
	case e.found:
		return fmt.Sprintf("%s (%s)", e.pod.NamespacedName, address)
	case e.node != "":
		return fmt.Sprintf("%s (node %s)", address, e.node)
	case e.external:
		return address + " (external)"
	}
	return address
}

// peer is the end as records have it.
func (e dropEnd) peer(a netip.Addr) DropPeer {
	p := DropPeer{Address: a}
	if e.found {
		p.Pod, p.Owner, p.Namespace = e.pod.String(), e.pod.Owner, e.pod.Namespace
	}
	return p
}

// packetText says what was dropped.
func packetText(d Drop) string {
	const echo4, echo6 = 8, 128
	switch {
	case d.Partial:
		return strings.ToUpper(nft.ProtocolName(d.Proto)) + " packet of unknown port"
	case d.Proto == nft.TCP && d.Opens:
		return "TCP connection"
	case d.Proto == nft.ICMP && d.ICMPType == echo4:
		return "ICMP echo request"
	case d.Proto == nft.ICMPv6 && d.ICMPType == echo6:
		return "ICMPv6 echo request"
	case d.Proto == nft.ICMP:
		return "ICMP message of type " + strconv.Itoa(int(d.ICMPType))
	case d.Proto == nft.ICMPv6:
		return "ICMPv6 message of type " + strconv.Itoa(int(d.ICMPType))
	case hasPorts(d.Proto):
		return strings.ToUpper(nft.ProtocolName(d.Proto)) + " packet"
	}
	return "packet of protocol " + nft.ProtocolName(d.Proto)
}

func hasPorts(proto uint8) bool { return proto == nft.TCP || proto == nft.UDP || proto == nft.SCTP }

func isICMP(proto uint8) bool { return proto == nft.ICMP || proto == nft.ICMPv6 }
