// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// Flags to run other seeds, or a single one: go test ./test/kernel -run=Random -seed=7 -flows=1
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of the random clusters")
	flowCount = flag.Int("flows", 1_000_000, "how many flows of random clusters are held against the kernel")
)

const (
	node     = "node-1"
	steps    = 8   // probed tables of a cluster: the first, and those after some events
	perTable = 300 // flows through each table
)

// TestRandom compares three verdicts on flows of random clusters: of the policies' own text, of the interpreter of the
// rules, and of the kernel, which gets the rules of a changing cluster in incremental transactions.
func TestRandom(t *testing.T) {
	f := &fuzz{T: t, prober: prober.New(t)}
	f.conn = open(t)
	seed := *firstSeed
	for ; f.flows < *flowCount && !t.Failed(); seed++ {
		f.cluster(seed)
	}
	t.Logf("seeds %d to %d: %d flows, %d of them allowed, %d counted as what audited policies would deny, %d to the "+
		"node, %d of IPv4-mapped addresses, %d observed, %d sequential lists in the tables, %d transactions",
		*firstSeed, seed-1, f.flows, f.allowed, f.audited, f.toNode, f.mapped, f.observed,
		f.sequential, f.transactions)
	if f.audited == 0 {
		t.Error("audited policies would deny nothing")
	}
	if f.sequential == 0 {
		t.Error("no tier's rules were checked one after the other")
	}
}

// fuzz is a run of TestRandom.
type fuzz struct {
	*testing.T
	prober *prober.Prober
	conn   *kernel.Conn

	flows, toNode, mapped, allowed, audited, observed, sequential, transactions int

	counted map[countedFlow]uint64 // of the table that counts flows
}

// cluster changes the cluster of a seed and probes each of its tables.
func (f *fuzz) cluster(seed uint64) {
	r := random.Source(seed)
	g := random.NewGenerator(r, random.SizeOf(seed))
	options := optionsOf(seed)
	c := g.Cluster()
	if seed%4 > 1 {
		g.AddTiers(c)
	}
	s := translate.New(node, options)
	s.Add(c)
	f.counted = nil
	for step := range steps {
		for range min(step, 1) * (1 + r.IntN(4)) {
			e := g.Event(c)
			e.Apply(s)
			e.ApplyTo(c)
		}
		if f.commit(s.Complete()); f.Failed() {
			f.Fatalf("seed %d, step %d", seed, step)
		}
		f.sequential += len(s.Sequential())
		where := fmt.Sprintf("seed %d, step %d", seed, step)
		c.OverLimit = s.OverLimit()
		c.Guard = random.Guard(c, node, options)
		f.probe(where, r, c, s.Complete())
		if step == 0 && seed%8 == 1 && options.Deny != nft.Reject { // because a reset is not an answer
			f.probeNode(where, r, c, s)
		}
	}
	if seed%2 == 0 {
		f.sameListing(seed, c, options)
	}
}

// optionsOf returns the options of a seed.
func optionsOf(seed uint64) translate.Options {
	options := translate.Options{LogGroup: 86 * uint16(seed%2)}
	if seed%3 == 0 {
		options.Deny = nft.Reject
	}
	if seed%5 == 0 {
		options.Established = frame.Recheck
	}
	if seed%2 == 1 { // packets would change what sameListing compares
		options.Observe = 100_000
	}
	options.TwoWays = seed%7 < 2
	if seed%4 == 3 { // half of those with tiers
		options.TierBounds = tier.DefaultBounds()
		options.TierBounds.Elements = int(seed / 4 % 30)
		options.TierBounds.Pods = int(seed / 8 % 12)
	}
	if seed%8 < 3 {
		options.WideFrom = 1 + int(seed%8)
	}
	random.SetGuard(&options, seed)
	return options
}

// commit brings the kernel up to date and removes what is retired. A refusal is a bug.
func (f *fuzz) commit(table *nft.Table) {
	for range 2 {
		if tx := table.Take(); tx != nil {
			f.transactions++
			if _, err := f.conn.Apply(f.Context(), tx); err != nil {
				f.Errorf("the kernel refuses a transaction: %+v\n%s", err, tx)
			}
		}
		table.Reap(table.Retired())
	}
}

// probe sends flows and compares the verdicts. It keeps the first flow that differs as a golden case.
func (f *fuzz) probe(where string, r *rand.Rand, c *policy.Cluster, table *nft.Table) {
	source := random.NewFlows(r, c, routable)
	flows := make([]policy.Flow, perTable)
	for i := range flows {
		flows[i] = source.Next()
		flows[i].Service = false // nothing here translates addresses
	}
	flows = unrelated(flows)
	before, would := wouldDeny(f, f.conn), uint64(0)
	forwarded, err := send(f.prober, flows)
	if err != nil {
		f.Fatalf("%s: %v", where, err)
	}
	for i, flow := range flows {
		f.flows++
		if forwarded[i] {
			f.allowed++
		}
		if flow.Src.Is4In6() || flow.Dst.Is4In6() {
			f.mapped++
		}
		trail, err := trace.Follow(table, frame.PacketOf(flow))
		steps, verdict := trail.Steps, trail.Verdict
		rules := verdict.Kind == nft.Accept
		policies := allows(c, flow)
		if err != nil || rules != forwarded[i] || policies != forwarded[i] {
			f.keep(where, c, flow)
			f.Fatalf("%s: %s, type %d: the kernel forwards it: %t; the rules: %t by %v %v; the policies: %t\n%s", where,
				flow, flow.ICMPType,
				forwarded[i], rules, steps, err, policies, table)
		}
		for _, d := range cases.WouldDeny(trail) {
			if d {
				would++
			}
		}
	}
	f.audited += int(would)
	if counted := wouldDeny(f, f.conn) - before; counted != would {
		f.Fatalf("%s: audited policies would deny %d packets by the rules, and %d by the kernel's counts\n%s", where,
			would, counted, table)
	}
	f.checkObserved(where, table, flows, forwarded)
}

// allows says whether the policies allow a flow in the directions that the node decides.
func allows(c *policy.Cluster, flow policy.Flow) bool {
	e := c.Explain(flow)
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if d.Unknown || d.Pod != nil && d.Pod.Node == node && !d.Allowed {
			return false
		}
	}
	return true
}

// keep writes a golden case to the temporary directory: the smallest cluster whose table, given to the kernel at once,
// still differs from the policies. If that of c does not, the increments are at fault, and c is kept as it is.
func (f *fuzz) keep(where string, c *policy.Cluster, flow policy.Flow) {
	known := c.Guard
	differs := func(c *policy.Cluster) bool {
		s := translate.New(node, translate.Options{})
		c.Guard = nil
		if known != nil { // whatever it was made from
			o := translate.Options{Guard: guard.Options{UnknownPods: guard.Deny, Ranges: known.Ranges}}
			c.Guard, s = random.Guard(c, node, o), translate.New(node, o)
		}
		s.Add(c)
		f.commit(s.Complete())
		forwarded, err := send(f.prober, []policy.Flow{flow})
		return err == nil && forwarded[0] != allows(c, flow)
	}
	if differs(c) {
		c = random.Minimise(c, differs)
	}
	text := random.Case(where, c.Explain(flow), c)
	path := filepath.Join(os.TempDir(), "netpold-"+strings.NewReplacer(" ", "-", ",", "").Replace(where)+".txtar")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Error(err)
	}
	f.Logf("kept as %s:\n%s", path, text)
}

// routable says whether a router forwards packets from and to an address.
func routable(a netip.Addr) bool {
	v4, v6 := prober.NodeAddr()
	switch {
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == v4, a == v6:
		return false
	}
	return !a.Is4() || a.As4()[0] != 0 && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// tracked says whether the prober can make the first packet of a new connection for the flow.
func tracked(flow policy.Flow) bool {
	switch flow.Proto {
	case nft.TCP, nft.UDP, nft.SCTP:
		return true
	case nft.ICMP:
		return flow.Src.Is4() && flow.ICMPType == 8
	}
	return flow.Proto == nft.ICMPv6 && flow.Src.Is6() && flow.ICMPType == 128
}

// unrelated leaves out flows that conntrack takes for replies to an earlier one: if a protocol has neither ports nor
// ids, that is every flow between the same two addresses.
func unrelated(flows []policy.Flow) []policy.Flow {
	seen := make(map[[2]netip.Addr]bool)
	return slices.DeleteFunc(flows, func(flow policy.Flow) bool {
		if tracked(flow) || flow.Proto == nft.ICMP || flow.Proto == nft.ICMPv6 {
			return false
		}
		pair := [2]netip.Addr{flow.Src, flow.Dst}
		slices.SortFunc(pair[:], netip.Addr.Compare)
		again := seen[pair]
		seen[pair] = true
		return again
	})
}

// send returns which of the flows the kernel forwards, each as a new connection.
func send(p *prober.Prober, flows []policy.Flow) ([]bool, error) {
	var probes []prober.Probe
	var packets [][]byte
	for i, flow := range flows {
		if tracked(flow) {
			probes = append(probes, prober.Probe{Src: flow.Src, Dst: flow.Dst, Proto: flow.Proto,
				DstPort: flow.DstPort})
			continue
		}
		packets = append(packets, single(flow, uint16(i)))
	}
	if err := p.Forget(); err != nil { // earlier flows between the same addresses
		return nil, err
	}
	connections, err := p.Run(probes)
	if err != nil {
		return nil, err
	}
	singles, err := p.Forwarded(packets...)
	if err != nil {
		return nil, err
	}
	forwarded := make([]bool, len(flows))
	for i, flow := range flows {
		from := &singles
		if tracked(flow) {
			from = &connections
		}
		forwarded[i], *from = (*from)[0], (*from)[1:]
	}
	return forwarded, nil
}

// single returns a packet that begins no connection; id makes it unique, and differs from those of the prober's echo
// requests.
func single(flow policy.Flow, id uint16) []byte {
	rest := uint32(id) << 16
	if flow.Proto == nft.ICMP && flow.Src.Is4() || flow.Proto == nft.ICMPv6 && flow.Src.Is6() {
		return prober.ICMP(flow.Src, flow.Dst, prober.Message{Type: flow.ICMPType, Rest: rest})
	}
	return prober.IP(flow.Src, flow.Dst, flow.Proto,
		binary.BigEndian.AppendUint32([]byte{flow.ICMPType, 0, 0, 0}, rest))
}

// sameListing compares the kernel's incremental table with one made at once.
func (f *fuzz) sameListing(seed uint64, c *policy.Cluster, options translate.Options) {
	got := listing(f)
	s := translate.New(node, options)
	s.Add(c)
	f.commit(s.Complete())
	if want := listing(f); got != want {
		f.Fatalf("seed %d: the incremental table has\n%s\nthe one from scratch has\n%s", seed, without(got, want),
			without(want, got))
	}
}

// listing returns nft(8)'s listing of the table, in a fixed order.
func listing(t testing.TB) string {
	out, err := exec.Command("nft", "--stateless", "list", "table", "inet", frame.TableName).CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	body := strings.TrimSuffix(strings.TrimSpace(string(out)), "}")
	// the table's, before the first block
	body = regexp.MustCompile(`(?m)^\tcomment ".*"$`).ReplaceAllString(body, "$0\n")
	blocks := strings.Split(body, "\n\n")
	for i, b := range blocks {
		b = regexp.MustCompile(`,\s*\n\s*`).ReplaceAllString(strings.Trim(b, "\n"), ", ")
		blocks[i] = regexp.MustCompile(`\{ ([^{}\n]*) \}`).ReplaceAllStringFunc(b, func(set string) string {
			items := strings.Split(strings.Trim(set, "{ }"), ", ")
			slices.Sort(items)
			items = slices.Compact(items) // a set that is being resized may list an element twice
			return "{ " + strings.Join(items, ", ") + " }"
		})
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// without returns the lines of one text that are not in the other.
func without(text, other string) string {
	lines := strings.Split(text, "\n")
	have := strings.Split(other, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return slices.Contains(have, line) }), "\n")
}
