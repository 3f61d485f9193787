// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRangeText(t *testing.T) {
	for _, row := range []struct{ first, last, want string }{
		{"0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"0.0.0.0", "255.255.255.254", "0.0.0.0-255.255.255.254"},
		{"0.0.0.1", "255.255.255.255", "0.0.0.1-255.255.255.255"},
		{"0.0.0.0", "0.0.0.0", "0.0.0.0"},
		{"0.0.0.0", "0.0.0.1", "0.0.0.0/31"},
		{"0.0.0.1", "0.0.0.2", "0.0.0.1-0.0.0.2"},
		{"10.0.0.0", "10.255.255.255", "10.0.0.0/8"},
		{"10.0.0.128", "10.0.1.127", "10.0.0.128-10.0.1.127"}, // as long as a prefix
		{"128.0.0.0", "255.255.255.255", "128.0.0.0/1"},
		{"255.255.255.254", "255.255.255.255", "255.255.255.254/31"},
		{"255.255.255.255", "255.255.255.255", "255.255.255.255"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
		{"::", "::", "::"},
		{"::", "::1", "::/127"},
		{"::1", "::2", "::1-::2"},
		{"::1.2.3.0", "::1.2.3.255", "::1.2.3.0/120"},
		{"::ffff:0.0.0.0", "::ffff:255.255.255.255", "::ffff:0.0.0.0/96"},
		{"fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::/8"},
		{"8000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::/1"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		if got := rangeText(netip.MustParseAddr(row.first), netip.MustParseAddr(row.last)); got != row.want {
			t.Errorf("%s to %s: %s, want %s", row.first, row.last, got, row.want)
		}
	}
}

// FuzzRangeText: the text of an interval names exactly that interval.
func FuzzRangeText(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0}, []byte{10, 0, 0, 255})
	f.Add(make([]byte, 16), make([]byte, 16))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		first, ok1 := netip.AddrFromSlice(a)
		last, ok2 := netip.AddrFromSlice(b)
		if !ok1 || !ok2 || first.BitLen() != last.BitLen() || last.Less(first) {
			return
		}
		text := rangeText(first, last)
		from, to := text, text
		if p, err := netip.ParsePrefix(text); err == nil {
			from, to = p.Addr().String(), LastAddr(p).String()
		} else if a, b, found := strings.Cut(text, "-"); found {
			from, to = a, b
		}
		if netip.MustParseAddr(from) != first || netip.MustParseAddr(to) != last {
			t.Errorf("%s to %s: %s", first, last, text)
		}
	})
}

func TestLastAddr(t *testing.T) {
	for _, row := range []struct{ prefix, want string }{
		{"0.0.0.0/0", "255.255.255.255"},
		{"0.0.0.0/32", "0.0.0.0"},
		{"10.0.0.0/8", "10.255.255.255"},
		{"10.1.2.3/8", "10.255.255.255"}, // its other bits do not count
		{"10.0.0.0/31", "10.0.0.1"},
		{"255.255.255.255/32", "255.255.255.255"},
		{"::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"::/128", "::"},
		{"fd00::/9", "fd7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"::ffff:10.0.0.0/104", "::ffff:10.255.255.255"},
	} {
		if got := LastAddr(netip.MustParsePrefix(row.prefix)); got.String() != row.want {
			t.Errorf("%s: %s, want %s", row.prefix, got, row.want)
		}
	}
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(netip.IPv4Unspecified(), 33),
		netip.PrefixFrom(netip.IPv6Unspecified(), -1)} {
		if got := LastAddr(p); got.IsValid() {
			t.Errorf("%s: %s", p, got)
		}
	}
}

func TestCleanComment(t *testing.T) {
	long := strings.Repeat("x", MaxComment)
	for _, row := range []struct{ comment, want string }{
		{"", ""},
		{"default/web, kube-system/dns; 1 pod (~100%) #'{}$@`", "default/web, kube-system/dns; 1 pod (~100%) #'{}$@`"},
		{`a "b" \c`, "a _b_ _c"},
		{"a\nb\tc\x00d\x7f", "a_b_c_d_"},
		{"größer", "gr__er"},
		{"\xff\xfe", "__"},
		{long, long},
		{long + "y", long[:MaxComment-3] + "..."},
		{strings.Repeat("ß", 200), strings.Repeat("_", MaxComment-3) + "..."},
	} {
		if got := CleanComment(row.comment); got != row.want {
			t.Errorf("%q: %q, want %q", row.comment, got, row.want)
		}
	}
}

// FuzzCleanComment: nft(8) accepts a cleaned comment, and cleaning it again does not change it.
func FuzzCleanComment(f *testing.F) {
	f.Add("a \"quote\" and\nmore")
	f.Fuzz(func(t *testing.T, s string) {
		clean := CleanComment(s)
		if len(clean) > MaxComment || !utf8.ValidString(clean) || strings.ContainsAny(clean, "\"\\\n\x00") {
			t.Errorf("%q", clean)
		}
		if quoted := fmt.Sprintf("%q", clean); quoted != `"`+clean+`"` {
			t.Errorf("Go quotes it as %s", quoted)
		}
		if again := CleanComment(clean); again != clean {
			t.Errorf("%q cleans to %q", clean, again)
		}
	})
}

// TestCleaned: text from others is cleaned in the table, so it is the same as in the kernel.
func TestCleaned(t *testing.T) {
	const dirty, clean = `a "b"`, "a _b_"
	table := NewTable("t", dirty)
	s := table.Set("s", SetType{Family: IPv4}, dirty)
	k := AddrKey(netip.MustParseAddr("10.0.0.1"))
	s.Want(k, Value{Comment: dirty})
	table.SetChain(&Chain{Name: "c", Comment: dirty,
		Rules: []Rule{{Statements: []Statement{Log{Prefix: dirty}}, Comment: dirty}}})
	tx := table.Take()
	for _, text := range []string{table.String(), tx.String()} {
		if n := strings.Count(text, clean); strings.Contains(text, dirty) || n != 6 && n != 7 {
			t.Errorf("%d times clean in\n%s", n, text)
		}
	}
	s.Want(k, Value{Comment: dirty})
	table.SetChain(&Chain{Name: "c", Comment: clean,
		Rules: []Rule{{Statements: []Statement{Log{Prefix: clean}}, Comment: clean}}})
	if tx := table.Take(); tx != nil {
		t.Errorf("the same again is not the same:\n%s", tx)
	}
}

// TestKeyOrder: elements are sorted by every part of their keys.
func TestKeyOrder(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.1.0")
	keys := []Key{
		AddrKey(a), PortKey(a, TCP, 80), PortKey(a, TCP, 443), PortKey(a, UDP, 53), PairKey(a, a), PairKey(a, b),
		AddrKey(b), AddrKey(netip.MustParseAddr("fd00::")),
	}
	for i := range keys {
		for j := range keys {
			got := keys[i].compare(keys[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%v and %v compare as %d", keys[i], keys[j], got)
			}
		}
	}
}

// TestStaleSet: a deleted set has no effect on a new one of the same name.
func TestStaleSet(t *testing.T) {
	table := NewTable("t", "")
	k := AddrKey(netip.MustParseAddr("10.0.0.1"))
	stale := table.Set("s", SetType{Family: IPv4}, "")
	table.Take()
	table.DeleteSet("s")
	table.Take()
	table.Reap(table.Retired())
	table.Take()
	table.Set("s", SetType{Family: IPv4}, "").Want(k, Value{})
	stale.Want(k, Value{Comment: "stale"})
	tx := table.Take()
	stale.Unwant(k)
	if len(tx.Ops) != 2 || table.Take() != nil || table.FindSet("s") == nil {
		t.Errorf("%s\nmakes\n%s", tx, table)
	}
}

// TestSetRead: what the methods that read a table return.
func TestSetRead(t *testing.T) {
	table := NewTable("t", "")
	if table.FindSet("s") != nil || table.Chain("c") != nil {
		t.Error("found what is not there")
	}
	s := table.Set("s", SetType{Family: IPv4, Map: true}, "")
	a, b := AddrKey(netip.MustParseAddr("10.0.0.1")), AddrKey(netip.MustParseAddr("10.0.0.2"))
	s.Want(b, Value{Verdict: JumpTo("c")})
	s.Want(a, Value{})
	if table.FindSet("s") != s || table.Set("s", s.Type, "") != s || s.Len() != 2 {
		t.Error("the set is another one")
	}
	if v, ok := s.Get(b); !ok || v.Verdict.Chain != "c" {
		t.Errorf("got %v, %t", v, ok)
	}
	if all := s.Elements(); len(all) != 2 || all[0].Key != a || all[1].Key != b {
		t.Errorf("elements %v", all)
	}
	s.Unwant(b)
	if _, ok := s.Get(b); ok || s.Len() != 1 {
		t.Error("still there")
	}
	table.DeleteSet("s")
	table.DeleteSet("missing")
	if table.FindSet("s") != nil || len(table.Sets()) != 0 {
		t.Error("found what was deleted")
	}
	if s := table.Set("s", s.Type, ""); s.Len() != 0 {
		t.Error("a new set is not empty")
	}
}

// TestSetAllocates: in the steady state, editing an element does not allocate.
func TestSetAllocates(t *testing.T) {
	table := NewTable("t", "")
	s := table.Set("s", SetType{Family: IPv4, Map: true}, "")
	v, other := Value{Verdict: GotoChain("c"), Comment: "default/web"},
		Value{Verdict: GotoChain("d"), Comment: "default/web"}
	keys := make([]Key, 100)
	for i := range keys {
		keys[i] = AddrKey(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		s.Want(keys[i], v)
	}
	table.Take()
	s.Want(keys[0], other) // makes the map of what differs
	for name, edit := range map[string]func(Key){
		"want what is wanted": func(k Key) { s.Want(k, v) },
		"change and back":     func(k Key) { s.Want(k, other); s.Want(k, v) },
		"unwant and want":     func(k Key) { s.Unwant(k); s.Want(k, v) },
	} {
		i := 0
		if n := testing.AllocsPerRun(1000, func() { edit(keys[1+i%99]); i++ }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestElementChanges adds a comment to an address and removes it: it stays one element.
func TestElementChanges(t *testing.T) {
	table := NewTable("t", "")
	s := table.Set("s", SetType{Family: IPv4}, "")
	k := AddrKey(netip.MustParseAddr("10.0.0.1"))
	s.Want(k, Value{})
	table.Take()
	for _, row := range []struct {
		edit func()
		want string
	}{
		{func() { s.Want(k, Value{}) }, ""},
		{func() {
			s.Want(k, Value{Comment: "web"})
		}, "delete element inet t s { 10.0.0.1 }\nadd element inet t s { 10.0.0.1 comment \"web\" }\n"},
		{func() { s.Want(k, Value{}); s.Want(k, Value{Comment: "web"}) }, ""},
		{func() { s.Want(k, Value{}) }, "delete element inet t s { 10.0.0.1 }\nadd element inet t s { 10.0.0.1 }\n"},
		{func() { s.Want(k, Value{Comment: "web"}); s.Unwant(k) }, "delete element inet t s { 10.0.0.1 }\n"},
		{func() { s.Want(k, Value{Comment: "web"}); s.Want(k, Value{}) }, "add element inet t s { 10.0.0.1 }\n"},
	} {
		row.edit()
		got := ""
		if tx := table.Take(); tx != nil {
			got = tx.String()
		}
		if got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
		v, ok := s.Get(k)
		if e := s.Elements(); ok && (len(e) != 1 || s.Len() != 1 || e[0] != (Element{k, v})) || !ok && s.Len() != 0 {
			t.Errorf("elements %v, want one of %v", e, v)
		}
	}
}

// TestOutgrown: a set whose elements outgrow its size gets more room, in a new table; if they fit, including those that
// are deleted later, it is left alone.
func TestOutgrown(t *testing.T) {
	table := NewTable("t", "")
	s := table.Set("pods", SetType{Family: IPv4, Map: true, Size: 4}, "")
	for i, step := range []struct {
		want, unwant []byte
		size         uint32
		replaced     bool
	}{
		{want: []byte{1, 2, 3, 4}, size: 4, replaced: true}, // nothing is known of the kernel
		{unwant: []byte{1}, size: 4},
		{want: []byte{5}, size: 4},
		{want: []byte{6}, size: 10, replaced: true},
		{want: []byte{7, 8, 9, 10, 11}, size: 10},
		{unwant: []byte{11}, want: []byte{12}, size: 22, replaced: true}, // one of them may stay for a while
	} {
		for _, n := range step.unwant {
			s.Unwant(AddrKey(netip.AddrFrom4([4]byte{10, 0, 0, n})))
		}
		for _, n := range step.want {
			s.Want(AddrKey(netip.AddrFrom4([4]byte{10, 0, 0, n})), Value{Verdict: Verdict{Kind: Accept}})
		}
		tx := table.Take()
		if replaced := tx.Ops[0].Verb == AddTable; replaced != step.replaced || s.Type.Size != step.size {
			t.Errorf("step %d: size %d, table replaced: %t; want %d, %t",
				i, s.Type.Size, replaced, step.size, step.replaced)
		}
		if want := fmt.Sprintf("size %d\n", step.size); !strings.Contains(table.String(), want) {
			t.Errorf("step %d: no %q in\n%s", i, want, table)
		}
	}
}
