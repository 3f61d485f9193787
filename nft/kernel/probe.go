// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Needs is what tables need from the kernel.
type Needs uint8

// What [Open] can try out. Reading and deleting tables needs none of them.
const (
	Policies Needs = 1 << iota // what every table with policies has
	Log                        // rules that log, at a limited rate
	Reject                     // rules that reject
	Guard                      // rules about addresses that belong to no known pod
	Observe                    // rules that count flows

	Everything = Policies | Log | Reject | Guard | Observe
)

// requirement is something that tables cannot do without.
type requirement struct {
	needs Needs // any of these needs it
	what  string
	since string // the Linux version that has it, and its build option
	steps steps
}

// steps are edits of a table, each committed before the next.
type steps []func(*nft.Table)

// hasMapRelease is since when deleting a map immediately releases the chains that it names.
const hasMapRelease = "5.10.188, 5.15.120, 6.1.36, 6.4"

// hasOneWalk is since when a commit walks each chain once.
const hasOneWalk = "6.19, or a stable version with \"avoid chain re-validation if possible\", as 6.12.117"

// requirements returns what Open may try out, each on an empty table.
func requirements() []requirement {
	v4 := nft.SetType{Family: nft.IPv4}
	counted := nft.SetType{Family: nft.IPv6, Fields: nft.AddrProtoPort, Counter: true}
	ranges := nft.Ports{{Proto: nft.TCP, First: 1, Last: 2}, {Proto: nft.TCP, First: 4, Last: 5}}
	ports := nft.Ports{{Proto: nft.TCP, First: 1, Last: 1}, {Proto: nft.UDP, First: 1, Last: 1}}
	return []requirement{
		{Policies, "base chains of an inet table at the forward and input hooks",
			"3.14, CONFIG_NF_TABLES_INET", steps{base}},
		{Policies, "match of the conntrack state", "3.14, CONFIG_NFT_CT", ruleOf(nft.CtState{nft.Established})},
		{Log, "limit", "4.3, CONFIG_NFT_LIMIT", ruleOf(nft.Limit{Rate: 10, Burst: 20})},
		{Log, "log to a group", "3.14, CONFIG_NFT_LOG", ruleOf(nft.Log{Prefix: "p", Group: 86, Snaplen: 128})},
		{Reject, "reject", "3.18, CONFIG_NFT_REJECT_INET", ruleOf(nft.Verdict{Kind: nft.Reject})},
		{Guard, "match of an address's type", "4.10, CONFIG_NFT_FIB_INET",
			ruleOf(nft.AddrType{Kind: nft.Local})},
		{Observe, "set that packets add elements to, with a timeout and a counter", "4.3", steps{updated}},
		{Policies, "set of addresses", "3.18", setOf(v4, nft.AddrKey(netip.IPv4Unspecified()))},
		{Policies, "match of ranges of ports", "3.13", ruleOf(ranges)},
		{Policies, "match of ports of several protocols", "4.1", ruleOf(ports)},
		{Policies, "set whose elements count packets", "5.7",
			setOf(counted, nft.PortKey(netip.IPv6Loopback(), nft.TCP, 1))},
		{Policies, "deletion of a map's element, and then of the chain that it names", "5.10", steps{mapped, unmapped}},
		{Policies, "deletion of a map, and then of the chains that it names", hasMapRelease, steps{mapped, dropped}},
		{Policies, "replacement of intervals by others that overlap them", "5.10.166, 5.15.91, 6.1.9, 6.2",
			steps{intervals([2]byte{2, 2}, [2]byte{3, 5}), intervals([2]byte{2, 3}, [2]byte{4, 5})}},
	}
}

// needed returns what is to be tried out.
func (n Needs) needed() []requirement {
	return slices.DeleteFunc(requirements(), func(r requirement) bool { return r.needs&n == 0 })
}

func base(t *nft.Table) {
	t.SetChain(&nft.Chain{Name: "forward", Base: &nft.Base{Hook: nft.Forward}})
	t.SetChain(&nft.Chain{Name: "input", Base: &nft.Base{Hook: nft.Input}})
}

func ruleOf(s ...nft.Statement) steps {
	return steps{func(t *nft.Table) { t.SetChain(&nft.Chain{Name: "chain", Rules: []nft.Rule{nft.R(s...)}}) }}
}

func setOf(typ nft.SetType, k nft.Key) steps {
	return steps{func(t *nft.Table) { t.Set("set", typ, "").Want(k, nft.Value{}) }}
}

func updated(t *nft.Table) {
	s := t.Set("set", nft.SetType{Family: nft.IPv4, Fields: nft.Flow, Dynamic: nft.Dynamic{Max: 1, Timeout: 1}}, "")
	t.SetChain(&nft.Chain{Name: "chain", Rules: []nft.Rule{nft.R(nft.Opening{}), nft.R(nft.UpdateOf(s))}})
}

// ranges returns a verdict map of intervals, whose one element is inMap.
func ranges(t *nft.Table) *nft.Set {
	return t.Set("map", nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange, Map: true}, "")
}

func inMap() nft.Key {
	p := netip.PrefixFrom(netip.IPv4Unspecified(), 8)
	return nft.PairKey(p.Addr(), nft.LastAddr(p))
}

func mapped(t *nft.Table) {
	t.SetChain(&nft.Chain{Name: "chain"})
	ranges(t).Want(inMap(), nft.Value{Verdict: nft.GotoChain("chain")})
}

func unmapped(t *nft.Table) {
	ranges(t).Unwant(inMap())
	t.DeleteChain("chain")
}

func dropped(t *nft.Table) {
	t.DeleteSet("map")
	t.DeleteChain("chain")
}

// intervals replaces the content of an interval set by intervals between 10.0.0.0 and 10.0.0.255.
func intervals(want ...[2]byte) func(*nft.Table) {
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
	return func(t *nft.Table) {
		s := t.Set("set", nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange}, "")
		for _, e := range s.Elements() {
			s.Unwant(e.Key)
		}
		for _, i := range want {
			s.Want(nft.PairKey(addr(i[0]), addr(i[1])), nft.Value{})
		}
	}
}

// probe tries out what the tables need, and, if they are to be owned, whether they can be.
func (c *Conn) probe() error {
	ctx := context.Background()
	name := fmt.Sprintf("netpold-probe-%d", c.port)
	for _, r := range c.config.Needs.needed() {
		if err := cmp.Or(c.require(ctx, name, r), c.DeleteTable(ctx, name)); err != nil {
			return err
		}
	}
	if c.config.Needs&Policies != 0 {
		if err := c.probeWalk(ctx, name); err != nil {
			return err
		}
	}
	if c.config.Own {
		return c.probeOwn(ctx, name)
	}
	return nil
}

// probeWalk finds out whether a commit walks every way through the chains. Only timing can tell: whether chains that
// jump to the next one four times take longer than chains that do once.
func (c *Conn) probeWalk(ctx context.Context, name string) error {
	const jumps, much = 4, 3
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took [2]time.Duration
	for range 3 {
		for i, n := range []int{1, jumps} {
			before := cpuTime()
			err := c.try(ctx, name, steps{func(t *nft.Table) { ladder(t, n, jumps) }})
			used := cpuTime() - before
			if err := errors.Join(err, c.DeleteTable(ctx, name)); err != nil {
				return fmt.Errorf("try out jumps: %w", err)
			}
			if took[i] == 0 || used < took[i] {
				took[i] = used
			}
		}
	}
	c.everyWay = took[1] > much*took[0]
	return nil
}

// ladder makes chains with rules rules each, of which jumps jump to the next chain. No packet reaches them.
func ladder(t *nft.Table, jumps, rules int) {
	const rungs = 11 // a million ways: some 20 ms if the kernel walks them all; a quarter would drown in noise
	for i := range rungs {
		c := &nft.Chain{Name: fmt.Sprint("rung-", i)}
		for n := range rules {
			r := nft.R(nft.Counter{})
			if n < jumps && i < rungs-1 {
				r = nft.R(nft.JumpTo(fmt.Sprint("rung-", i+1)))
			}
			c.Rules = append(c.Rules, r)
		}
		t.SetChain(c)
	}
	t.SetChain(&nft.Chain{Name: "forward", Base: &nft.Base{Hook: nft.Forward}, Rules: []nft.Rule{
		nft.R(nft.Verdict{Kind: nft.Accept}), nft.R(nft.JumpTo("rung-0")),
	}})
}

// cpuTime is the CPU time of the calling thread, including the kernel's.
func cpuTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // cannot fail
	return time.Duration(t.Nano())
}

// require tries out one requirement. A busy kernel releases the chains that a deleted map names only some time after
// the transaction, too late for the next one, which deletes the chains. A flush releases them at once, at a cost for
// each element.
func (c *Conn) require(ctx context.Context, name string, r requirement) error {
	err := c.try(ctx, name, r.steps)
	if errors.Is(err, unix.EBUSY) && !c.flushMaps {
		c.flushMaps = true
		err = errors.Join(c.DeleteTable(ctx, name), c.try(ctx, name, r.steps))
	}
	if err == nil || errors.Is(err, unix.EPERM) { // about privileges, not the kernel's abilities
		return err
	}
	return fmt.Errorf("%s (Linux %s): %w: %w", r.what, r.since, ErrNotSupported, err)
}

// try commits the steps on an empty table, each with the deletion of what it retires.
func (c *Conn) try(ctx context.Context, name string, all steps) error {
	t := nft.NewTable(name, "")
	for _, step := range all {
		step(t)
		for range 2 {
			if _, err := c.Apply(ctx, t.Take()); err != nil {
				return err
			}
			t.Reap(t.Retired())
		}
	}
	return nil
}

// probeOwn sets the flags of owned tables if the kernel takes them. Older kernels have owners (5.12) but no persistence
// (6.9): an owned table would vanish with its owner and let all traffic through, so there tables are not owned.
func (c *Conn) probeOwn(ctx context.Context, name string) error {
	c.flags = message.TableOwner | message.TablePersist
	err := c.try(ctx, name, steps{func(*nft.Table) {}})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		c.flags = 0
		return nil
	}
	return errors.Join(err, c.DeleteTable(ctx, name))
}
