// SPDX-License-Identifier: Apache-2.0

package cases_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
)

const sample = `# What it shows,
# over two lines. And how.
#
# More of it.
flags: --deny=reject
-- cluster.yaml --
apiVersion: v1
kind: PodList
items:
- metadata: {namespace: shop, name: web}
  spec: {nodeName: worker-2}
  status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
- metadata: {namespace: shop, name: four}
  spec: {nodeName: worker-1}
  status: {podIPs: [{ip: 10.0.0.2}]}
-- flows --
`

// TestFlows parses flows of each form.
func TestFlows(t *testing.T) {
	for line, want := range map[string]string{
		"allow shop/four -> shop/web:80/tcp # why": "true 10.0.0.2 -> 10.0.0.1 tcp/80",
		"deny  shop/web  ->   shop/web:53/udp": "false 10.0.0.1 -> 10.0.0.1 udp/53, false fd00::1 -> " +
			"fd00::1 udp/53",
		"allow shop/web[6] -> shop/web:53/sctp":              "true fd00::1 -> fd00::1 sctp/53",
		"allow shop/web -> shop/web[4]:icmp":                 "true 10.0.0.1 -> 10.0.0.1 icmp/0",
		"allow shop/web -> [fd00::2]:icmp/135":               "true fd00::1 -> fd00::2 icmpv6/0",
		"allow [fd00::2] -> shop/web:protocol/47":            "true fd00::2 -> fd00::1 47/0",
		"allow node -> shop/four:80/tcp":                     "true invalid IP -> 10.0.0.2 tcp/80",
		"allow shop/web -> node[6]:80/tcp":                   "true fd00::1 -> 100::8 tcp/80",
		"# only a comment\nallow 10.1.1.1 -> 10.1.1.2:1/tcp": "true 10.1.1.1 -> 10.1.1.2 tcp/1",
	} {
		c, err := cases.Parse("x.txtar", []byte(sample+line+"\n"))
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for _, f := range c.Flows {
			got = append(got, fmt.Sprintf("%t %s", f.Allow, f.Flow))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
		if where := fmt.Sprintf("x.txtar:%d", 17+strings.Count(line, "\n")); c.Flows[0].Where != where {
			t.Errorf("%s: is at %s, not %s", line, where, c.Flows[0].Where)
		}
	}
}

// TestRefusal: what does not parse is refused, with file and line.
func TestRefusal(t *testing.T) {
	for _, line := range []string{
		"permit shop/four -> shop/web:80/tcp", "allow shop/four shop/web:80/tcp", "allow shop/four -> shop/web",
		"allow shop/none -> shop/web:80/tcp", "allow shop/four -> shop/web[6]:80/tcp",
		"allow shop/four[6] -> shop/web:80/tcp",
		"allow shop/four -> shop/web:80", "allow shop/four -> shop/web:http/tcp",
		"allow shop/four -> shop/web:80000/tcp",
		"allow shop/four -> shop/web:icmp/256", "allow shop/four -> shop/web:80/gre",
	} {
		if _, err := cases.Parse("x.txtar", []byte(sample+line+"\n")); err == nil ||
			!strings.HasPrefix(err.Error(), "x.txtar:17: ") {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, text := range []string{
		"", "# Title.\n", sample, "what: it shows\n" + sample, "flags: --deny=maybe\n" + sample,
		sample + "-- more --\n",
		strings.TrimPrefix(sample, "# What it shows,\n# over two lines. And how.\n#\n# More of it.\n"),
	} {
		if c, err := cases.Parse("x.txtar", []byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, c)
		}
	}
}

// TestCase parses the rest of a file, and formats it again.
func TestCase(t *testing.T) {
	c, err := cases.Parse("dir/name.txtar", []byte(sample+"allow shop/four -> shop/web:80/tcp\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "name" || c.Title != "What it shows, over two lines" || c.Node != "worker-2" ||
		fmt.Sprint(c.Nodes()) != "[worker-1 worker-2]" ||
		!reflect.DeepEqual(c.Options, translate.Options{LogGroup: 86, Deny: nft.Reject}) {
		t.Errorf("%+v", c)
	}
	text := c.Format("the table\n", []string{"one", "two"})
	want := sample + "allow shop/four -> shop/web:80/tcp\n-- errors --\none\ntwo\n-- table.nft --\nthe table\n"
	if string(text) != want {
		t.Errorf("got\n%s", text)
	}
	if c, err = cases.Parse("name.txtar", text); err != nil || c.Table != "the table\n" ||
		fmt.Sprint(c.Errors) != "[one two]" {
		t.Errorf("%+v, %v", c, err)
	}
	if text := c.Format("", nil); strings.Contains(string(text), "errors") {
		t.Errorf("got\n%s", text)
	}
}

// TestKept parses the files that the random tests keep.
func TestKept(t *testing.T) {
	for seed := range uint64(400) {
		r := random.Source(seed)
		cluster := random.Cluster(r, random.Small())
		if len(cluster.Pods) == 0 || cluster.Pods[0].Node == "" {
			continue
		}
		f := random.NewFlows(r, cluster, nil).Next()
		c, err := cases.Parse("kept.txtar", []byte(random.Case("kept", cluster.Explain(f), cluster)))
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Proto == nft.ICMP && f.Dst.Is6() || f.Proto == nft.ICMPv6 && f.Dst.Is4() {
			f.ICMPType = 0 // lost, as the protocol has no types in this family
		}
		f.In, f.Out = prober.InName, prober.OutName
		if c.Flows[0].Flow != f || len(c.Flows) != 1 {
			t.Errorf("got %v, want %v", c.Flows, f)
		}
	}
}
