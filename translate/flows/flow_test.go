// SPDX-License-Identifier: Apache-2.0

package flows_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// line is a flow in its written form.
const line = `{"from":{"address":"10.0.0.1","namespace":"shop","pod":"shop/web-1","workload":"Deployment/web",` +
	`"labels":{"app":"web"}},"to":{"address":"192.0.2.9","host":true},"protocol":"tcp","port":443,"count":3,` +
	`"first":"2026-11-22T00:00:00Z","last":"2026-11-22T00:01:00.5Z","verdict":"allowed","node":"a"}` + "\n"

// TestJSON: flows are written as they were read, and the fields keep their names.
func TestJSON(t *testing.T) {
	ping := strings.NewReplacer(`"tcp","port":443`, `"icmp","icmpType":0`, `allowed`, `denied`).Replace(line)
	all, err := flows.Read(strings.NewReader(line + "\n \n" + ping))
	if err != nil {
		t.Fatal(err)
	}
	first := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	want := flows.Flow{
		From: flows.End{Address: netip.MustParseAddr("10.0.0.1"), Namespace: "shop", Pod: "shop/web-1",
			Workload: "Deployment/web", Labels: map[string]string{"app": "web"}},
		To:       flows.End{Address: netip.MustParseAddr("192.0.2.9"), Host: true},
		Protocol: "tcp", Port: 443, Count: 3, First: first, Last: first.Add(60500 * time.Millisecond),
		Verdict: flows.Allowed, Node: "a",
	}
	if diff := cmp.Diff(want, all[0], cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var b strings.Builder
	if err := flows.Write(&b, all...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(line+ping, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for i, want := range []string{"shop/web -> 192.0.2.9 (node) TCP 443", "shop/web -> 192.0.2.9 (node) ICMP"} {
		if got := fmt.Sprintf("%s -> %s %s", all[i].From, all[i].To, all[i].Service()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestFaults: what is not a flow is reported, with its line.
func TestFaults(t *testing.T) {
	for _, row := range []struct{ old, new, want string }{
		{line, "[]\n", `not a JSON object; want the output of "netpold flows -o json", one flow per line`},
		{line, "{\n\"from\":\n",
			"the object continues on the next line; want one flow per line (as jq -c writes them)"},
		{`443`, `"443"`, "port: unexpected JSON string"},
		{`443`, `65536`, "port: unexpected JSON number 65536"},
		{`443,`, ``, "not a flow: invalid character"},
		{`"port":443,`, ``, "not a flow: port is missing"},
		{`"10.0.0.1"`, `"10.0.0"`, `not a flow: ParseAddr("10.0.0")`},
		{`"address":"10.0.0.1",`, ``, "not a flow: from.address is missing"},
		{`"192.0.2.9"`, `""`, "not a flow: to.address is missing"},
		{`"192.0.2.9"`, `"2001:db8::9"`,
			"not a flow: from.address 10.0.0.1 and to.address 2001:db8::9 are of different families"},
		{`"tcp"`, `""`, "not a flow: protocol is missing"},
		{`"tcp"`, `"TCP"`,
			`not a flow: protocol: "TCP" is not tcp, udp, sctp, icmp, ipv6-icmp or a number to 255`},
		{`"tcp"`, `"256"`, `not a flow: protocol: "256" is not tcp`},
		{`"tcp"`, `"47"`, `not a flow: port: 47 has no ports`},
		{`"count":3`, `"count":0`, "not a flow: count is missing"},
		{`"2026-11-22T00:00:00Z"`, `"0001-01-01T00:00:00Z"`, "not a flow: no first or last time"},
		{`T00:00:00Z`, `T02:00:00Z`, "not a flow: last: 2026-11-22T00:01:00Z is before first"},
		{`"allowed"`, `"dropped"`, `not a flow: verdict: "dropped" is not allowed or denied`},
		{line, `{"src":{},"dst":{}}`, `from.address is missing (it may be a line of "netpold drops -o json")`},
		{line, `{"kind":"Pod"}`, `from.address is missing (it may be a manifest)`},
		{line, strings.Repeat("x", 1<<20), "longer than 1048576 bytes; want one flow per line"},
	} {
		_, err := flows.Read(strings.NewReader(line + strings.Replace(line, row.old, row.new, 1)))
		if err == nil || !strings.HasPrefix(err.Error(), "line 2: ") || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s for %s: %v, want line 2: %s", row.new, row.old, err, row.want)
		}
	}
}

// TestUnknownField: a newer netpold may write more fields.
func TestUnknownField(t *testing.T) {
	if _, err := flows.Read(strings.NewReader(strings.Replace(line, `"count"`, `"more":{},"count"`, 1))); err != nil {
		t.Error(err)
	}
}

// TestMerge: a flow seen by two nodes is one flow.
func TestMerge(t *testing.T) {
	read := func(change ...string) flows.Flow {
		all, err := flows.Read(strings.NewReader(strings.NewReplacer(change...).Replace(line)))
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	one := read()
	other := read(`"count":3`, `"count":5`, `"a"`, `"b"`, `T00:00:00Z`, `T00:00:30Z`, `00:01:00.5Z`, `00:02:00Z`)
	denied := read("allowed", "denied")
	reused := read("web-1", "web-2") // another pod has the address now
	both := one
	both.Count, both.Node, both.Last = 5, "", other.Last
	want := []flows.Flow{both, reused, denied}
	if diff := cmp.Diff(want, flows.Merge([]flows.Flow{denied, one, reused, other}),
		cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := flows.Merge([]flows.Flow{one, one}); len(got) != 1 || got[0].Count != 3 || got[0].Node != "a" {
		t.Errorf("%+v", got)
	}
}

// TestSettle: a flow that the source's node allowed and the destination's node denied was denied.
func TestSettle(t *testing.T) {
	flow := func(node string, verdict flows.Verdict, port uint16, count uint64) flows.Flow {
		return flows.Flow{Node: node, Verdict: verdict, Port: port, Count: count}
	}
	got := flows.Settle([]flows.Flow{
		flow("a", flows.Allowed, 80, 7), flow("b", flows.Allowed, 80, 5), flow("b", flows.Denied, 80, 2),
		flow("a", flows.Allowed, 81, 3), flow("b", flows.Denied, 81, 3),
		flow("a", flows.Denied, 82, 1), flow("a", flows.Allowed, 82, 1),
	})
	want := []flows.Flow{
		flow("a", flows.Allowed, 80, 5), flow("b", flows.Allowed, 80, 5), flow("b", flows.Denied, 80, 2),
		flow("b", flows.Denied, 81, 3),
		flow("a", flows.Denied, 82, 1), flow("a", flows.Allowed, 82, 1),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestQuestion: the oracle is asked about the same packet.
func TestQuestion(t *testing.T) {
	for number := range 256 {
		f := flows.Flow{Protocol: flows.ProtocolName(uint8(number)), Port: 80}
		if got, known := f.Number(); !known || int(got) != number || f.Question().Proto != got {
			t.Errorf("%s is %d, not %d", f.Protocol, got, number)
		}
	}
	types := map[string]uint8{"icmp": 8, "ipv6-icmp": 128, "tcp": 0}
	for protocol, want := range types {
		if got := (flows.Flow{Protocol: protocol}).Question(); got.ICMPType != want {
			t.Errorf("%+v", got)
		}
	}
	reply := uint8(0)
	got := (flows.Flow{Protocol: "icmp", ICMPType: &reply}).Question()
	if got.ICMPType != 0 || got.Proto != policy.ICMP {
		t.Errorf("%+v", got)
	}
}
