// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate/policy"
)

// Flow is an expectation: a flow of one family, and whether the cluster's policies allow it.
type Flow struct {
	policy.Flow        // from the node: the source is not valid; to it: the destination is a prober's node
	Allow       bool   // the expected verdict
	Audit       bool   // allowed, and audited policies would deny it
	Where       string // file:line
	Text        string // of the line
}

// String returns where the flow is in the file, and what it says.
func (f Flow) String() string { return fmt.Sprintf("%s: %s (%s)", f.Where, f.Text, f.Flow) }

// FromNode says whether the flow is from the node to one of its own pods. It meets no base chain, so only a kernel can
// decide it.
func (f Flow) FromNode() bool { return !f.Src.IsValid() }

// lines yields the lines of a section without line ends.
func lines(data []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(string(data)) {
			if !yield(strings.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}

// parseFlows parses the flows; data is the whole file, for line numbers.
func (c *Case) parseFlows(data []byte) error {
	before, _, found := strings.Cut("\n"+string(data), "\n-- "+flowsSection+" --")
	if !found {
		return fmt.Errorf("%s: no section %s", c.File, flowsSection)
	}
	number := strings.Count(before, "\n") + 1
	for line := range lines(c.section(flowsSection)) {
		number++
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		where := fmt.Sprintf("%s:%d", c.File, number)
		flows, err := c.parseFlow(text)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", where, text, err)
		}
		for _, f := range flows {
			f.Where, f.Text = where, strings.Join(strings.Fields(text), " ")
			c.Flows = append(c.Flows, f)
		}
	}
	if len(c.Flows) == 0 {
		return fmt.Errorf("%s: no flows", c.File)
	}
	return nil
}

// parseFlow parses one line.
func (c *Case) parseFlow(text string) ([]Flow, error) {
	fields := strings.Fields(text)
	if len(fields) != 4 || fields[2] != "->" || !slices.Contains([]string{"allow", "deny", "audit"}, fields[0]) {
		return nil, errors.New("want allow|deny|audit SRC -> DST:PORT/PROTO")
	}
	i := strings.LastIndexByte(fields[3], ':')
	if i < 0 {
		return nil, errors.New("the destination has no port")
	}
	sources, err := c.end(fields[1])
	if err != nil {
		return nil, err
	}
	destinations, err := c.end(fields[3][:i])
	if err != nil {
		return nil, err
	}
	var flows []Flow
	for _, family := range nft.Families() {
		src, fromFamily := sources[family]
		dst, toFamily := destinations[family]
		if !fromFamily || !toFamily {
			continue
		}
		f := Flow{Flow: policy.Flow{Src: src, Dst: dst}, Allow: fields[0] != "deny", Audit: fields[0] == "audit"}
		f.In, f.Out = prober.InName, prober.OutName
		if !dst.IsValid() {
			f.ToNode, f.Dst, f.Out = true, nodeAddr(family), ""
		}
		if err := f.ask(fields[3][i+1:], family); err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	if len(flows) == 0 {
		return nil, errors.New("the two ends have no family in common")
	}
	return flows, nil
}

// nodeAddr returns the address at which a pod reaches its node.
func nodeAddr(f nft.Family) netip.Addr {
	v4, v6 := prober.NodeAddr()
	return map[nft.Family]netip.Addr{nft.IPv4: v4, nft.IPv6: v6}[f]
}

// end returns the address of one end of a flow in each of its families; a node's is not valid.
func (c *Case) end(text string) (map[nft.Family]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return map[nft.Family]netip.Addr{nft.FamilyOf(a): a}, nil
	}
	name, families := text, nft.Families()
	for _, f := range nft.Families() {
		if of, only := strings.CutSuffix(text, "["+f.String()+"]"); only {
			name, families = of, [...]nft.Family{f, f}
		}
	}
	ends := make(map[nft.Family]netip.Addr)
	for _, f := range families {
		switch addrs, exists := c.pod(name); {
		case name == "node":
			ends[f] = netip.Addr{}
		case !exists:
			return nil, fmt.Errorf("no pod %s", name)
		default:
			if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return nft.FamilyOf(a) == f }); i >= 0 {
				ends[f] = addrs[i]
			}
		}
	}
	if len(ends) == 0 {
		return nil, fmt.Errorf("%s has no such address", text)
	}
	return ends, nil
}

// pod returns the addresses of a pod by namespace/name.
func (c *Case) pod(name string) ([]netip.Addr, bool) {
	for _, p := range c.Cluster.Pods {
		if p.String() == name {
			return p.IPs, true
		}
	}
	return nil, false
}

// ask parses the service that the flow asks for.
func (f *Flow) ask(service string, family nft.Family) error {
	ping := map[nft.Family][2]uint8{nft.IPv4: {nft.ICMP, 8}, nft.IPv6: {nft.ICMPv6, 128}}[family]
	if service == "icmp" {
		f.Proto, f.ICMPType = ping[0], ping[1]
		return nil
	}
	number, kind, _ := strings.Cut(service, "/")
	if number == "icmp" || number == "protocol" {
		n, err := strconv.ParseUint(kind, 10, 8)
		if err != nil {
			return fmt.Errorf("%q is not a number from 0 to 255", kind)
		}
		if f.Proto = uint8(n); number == "icmp" {
			f.Proto, f.ICMPType = ping[0], uint8(n)
		}
		return nil
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a port", number)
	}
	protos := map[string]uint8{"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
	if f.DstPort, f.Proto = uint16(port), protos[kind]; f.Proto == 0 {
		return fmt.Errorf("%q is not tcp, udp or sctp", kind)
	}
	return nil
}
