// SPDX-License-Identifier: Apache-2.0

// Package flows has observed connections, with names as of when they were seen, and their JSON form: what `netpold
// flows -o json` prints and `netpold suggest -f` reads, one object per line.
//
// The package is pure: no clock, no log.
package flows

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/netpold/netpold/translate/policy"
)

// Flow is observed connections from one address to one port of another, whatever their source ports. Replies are not
// flows. The destination is the one after DNAT.
type Flow struct {
	From     End       `json:"from"`
	To       End       `json:"to"`
	Protocol string    `json:"protocol"`           // as in nft(8): tcp, udp, sctp, icmp, ipv6-icmp; otherwise a number
	Port     uint16    `json:"port,omitempty"`     // of tcp, udp and sctp
	ICMPType *uint8    `json:"icmpType,omitempty"` // of icmp and ipv6-icmp; nil if not known
	Count    uint64    `json:"count"`              // new connections; at least 1
	First    time.Time `json:"first"`              // when the first of them was seen
	Last     time.Time `json:"last"`
	Verdict  Verdict   `json:"verdict"`
	Node     string    `json:"node,omitempty"` // the node that observed it
}

// Verdict says what happened to a flow.
type Verdict string

// The verdicts.
const (
	Allowed Verdict = "allowed"
	Denied  Verdict = "denied"
)

// End is an end of a flow. An end with neither a pod nor Host is outside the cluster, or was not known.
type End struct {
	Address   netip.Addr        `json:"address"` // as on the wire: an IPv4-mapped one is IPv6
	Namespace string            `json:"namespace,omitempty"`
	Pod       string            `json:"pod,omitempty"`      // as namespace/name
	Workload  string            `json:"workload,omitempty"` // what the pod belongs to, such as "Deployment/web"
	Labels    map[string]string `json:"labels,omitempty"`   // of the pod when it was seen
	Host      bool              `json:"host,omitempty"`     // the address is a node's
}

// String returns the end for an operator: "shop/web" for a pod with a workload, the pod, or else the address.
func (e End) String() string {
	switch name := e.WorkloadName(); {
	case name != "":
		return e.Namespace + "/" + name
	case e.Pod != "":
		return e.Pod
	case e.Host:
		return e.Address.String() + " (node)"
	}
	return e.Address.String()
}

// WorkloadName returns the name of the workload without its kind, or "".
func (e End) WorkloadName() string {
	if _, name, kind := strings.Cut(e.Workload, "/"); kind {
		return name
	}
	return e.Workload
}

// Service returns what the flow connects to, for an operator: "TCP 5432" or "ICMP".
func (f Flow) Service() string {
	names := map[string]string{"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "ipv6-icmp": "ICMPv6"}
	name := cmp.Or(names[f.Protocol], "protocol "+f.Protocol)
	if f.Port == 0 {
		return name
	}
	return name + " " + strconv.Itoa(int(f.Port))
}

// Number returns the IANA number of the flow's protocol, and false for a name that is not known.
func (f Flow) Number() (uint8, bool) {
	for number, name := range protocolNames() {
		if name == f.Protocol {
			return number, true
		}
	}
	number, err := strconv.ParseUint(f.Protocol, 10, 8)
	return uint8(number), err == nil
}

// ProtocolName returns the name that a protocol has in a Flow.
func ProtocolName(number uint8) string {
	return cmp.Or(protocolNames()[number], strconv.Itoa(int(number)))
}

func protocolNames() map[uint8]string {
	return map[uint8]string{policy.TCP: "tcp", policy.UDP: "udp", policy.SCTP: "sctp", policy.ICMP: "icmp",
		policy.ICMPv6: "ipv6-icmp"}
}

// Question returns the flow as input for [policy.Cluster.Explain]. An unknown ICMP type counts as a ping.
func (f Flow) Question() policy.Flow {
	number, _ := f.Number()
	q := policy.Flow{Src: f.From.Address, Dst: f.To.Address, Proto: number, DstPort: f.Port}
	switch {
	case f.ICMPType != nil:
		q.ICMPType = *f.ICMPType
	case number == policy.ICMP:
		q.ICMPType = 8
	case number == policy.ICMPv6:
		q.ICMPType = 128
	}
	return q
}

// Fault returns what is invalid in the flow, naming the JSON field, or nil.
func (f Flow) Fault() error {
	number, known := f.Number()
	ported := number == policy.TCP || number == policy.UDP || number == policy.SCTP
	switch {
	case !f.From.Address.IsValid():
		return fmt.Errorf("from.address is missing")
	case !f.To.Address.IsValid():
		return fmt.Errorf("to.address is missing")
	case f.From.Address.Is4() != f.To.Address.Is4():
		return fmt.Errorf("from.address %s and to.address %s are of different families", f.From.Address, f.To.Address)
	case f.Protocol == "":
		return fmt.Errorf("protocol is missing")
	case !known:
		return fmt.Errorf("protocol: %q is not tcp, udp, sctp, icmp, ipv6-icmp or a number to 255", f.Protocol)
	case ported && f.Port == 0:
		return fmt.Errorf("port is missing")
	case !ported && f.Port != 0:
		return fmt.Errorf("port: %s has no ports", f.Protocol)
	case f.Count == 0:
		return fmt.Errorf("count is missing")
	case f.First.IsZero() || f.Last.IsZero():
		return fmt.Errorf("no first or last time")
	case f.Last.Before(f.First):
		return fmt.Errorf("last: %s is before first", f.Last.Format(time.RFC3339))
	case f.Verdict != Allowed && f.Verdict != Denied:
		return fmt.Errorf("verdict: %q is not allowed or denied", f.Verdict)
	}
	return nil
}

// key is equal for the same flow on whatever node it was seen.
type key struct {
	from, to         netip.Addr
	fromPod, toPod   string
	protocol         string
	port, icmp       uint16
	verdict          Verdict
	fromHost, toHost bool
}

func (f Flow) key() key {
	k := key{from: f.From.Address, to: f.To.Address, fromPod: f.From.Pod, toPod: f.To.Pod, protocol: f.Protocol,
		port: f.Port, verdict: f.Verdict, fromHost: f.From.Host, toHost: f.To.Host}
	if f.ICMPType != nil {
		k.icmp = 1 + uint16(*f.ICMPType)
	}
	return k
}

// Merge returns flows from several nodes, each once, sorted by source and destination. A connection between nodes is
// seen on both, so the greatest count holds; Node is then "".
func Merge(all []Flow) []Flow {
	at := make(map[key]int)
	var merged []Flow
	for _, f := range all {
		i, seen := at[f.key()]
		if !seen {
			at[f.key()] = len(merged)
			merged = append(merged, f)
			continue
		}
		m := &merged[i]
		m.Count = max(m.Count, f.Count)
		m.Span(f)
		if m.Node != f.Node {
			m.Node = ""
		}
	}
	Sort(merged)
	return merged
}

// Span extends the times of a flow to include another's.
func (f *Flow) Span(other Flow) {
	if other.First.Before(f.First) {
		f.First = other.First
	}
	if other.Last.After(f.Last) {
		f.Last = other.Last
	}
}

// Settle merges the verdicts of several nodes' flows, which must have Node set: a connection that one node let pass and
// another denied was denied. Allowed counts are reduced accordingly, and left out at zero.
func Settle(all []Flow) []Flow {
	alike := func(f Flow) key {
		f.Verdict = ""
		return f.key()
	}
	denied := make(map[key]map[string]uint64) // by node
	for _, f := range all {
		k := alike(f)
		if f.Verdict == Denied {
			if denied[k] == nil {
				denied[k] = make(map[string]uint64)
			}
			denied[k][f.Node] += f.Count
		}
	}
	settled := make([]Flow, 0, len(all))
	for _, f := range all {
		var elsewhere uint64
		if f.Verdict == Allowed {
			for node, count := range denied[alike(f)] {
				if node != f.Node {
					elsewhere += count
				}
			}
		}
		if f.Count > elsewhere {
			f.Count -= elsewhere
			settled = append(settled, f)
		}
	}
	return settled
}

// Sort sorts flows by source and destination, then by protocol, port and verdict.
func Sort(all []Flow) {
	type named struct {
		from, to string // precomputed: expensive
		at       int
	}
	order := make([]named, len(all))
	for i, f := range all {
		order[i] = named{f.From.String(), f.To.String(), i}
	}
	slices.SortFunc(order, func(x, y named) int {
		a, b := &all[x.at], &all[y.at]
		return cmp.Or(cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Verdict, b.Verdict),
			a.From.Address.Compare(b.From.Address), a.To.Address.Compare(b.To.Address), cmp.Compare(x.at, y.at))
	})
	sorted := make([]Flow, len(all))
	for i, o := range order {
		sorted[i] = all[o.at]
	}
	copy(all, sorted)
}
