// SPDX-License-Identifier: Apache-2.0

package drops

import (
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

// resolve looks up, in one look at the state, whom a packet concerns and, if there is room for a line, why the policies
// deny it; otherwise the record has no text. It is false for a packet that no chain of ours logged.
func (l *Log) resolve(p Packet) (r Record, ok bool) {
	if !p.Src.IsValid() || !p.Dst.IsValid() {
		return Record{}, false
	}
	room := l.window.room(p.key())
	var by denier
	flow := p.Flow
	var excerpt *policy.Cluster
	synced := l.config.View(func(s *translate.State) {
		if by, ok = denierOf(s, p.Prefix); !ok {
			return
		}
		r = newRecord(s, p, by)
		flow.Service = by.rule != nil && flow.Src == flow.Dst // otherwise it would never have left the pod
		if room && !p.Partial && by.guard == nil {            // a partial packet lacks what decides about it
			excerpt = s.Excerpt(flow)
		}
	})
	if !ok {
		return Record{}, false
	}
	if by.guard == nil {
		r.external(synced)
	}
	if room {
		r.Text = fmt.Sprintf("%s from %s to %s%s", p.text(), r.Src.text(p), r.Dst.text(p), by.why(&r, flow, excerpt))
	}
	return r, true
}

// newRecord returns the record of one packet with the ends that the state knows, without text.
func newRecord(s *translate.State, p Packet, by denier) Record {
	r := Record{
		Direction: by.direction.String(), Protocol: nft.ProtocolName(p.Proto), Src: peerAt(s, p.Src),
		Dst: peerAt(s, p.Dst), Policies: by.policies, Count: 1, Audit: by.audit, key: p.key(),
	}
	if by.rule != nil {
		r.Tier = string(by.rule.Tier)
	}
	switch {
	case p.Partial: // ports and type are not known
	case hasPorts(p.Proto):
		r.Src.Port, r.Dst.Port = p.SrcPort, p.DstPort
	case isICMP(p.Proto):
		r.ICMPType, r.ICMPCode = &p.ICMPType, &p.ICMPCode
	}
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
