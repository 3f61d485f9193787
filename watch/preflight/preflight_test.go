// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Files that preflight reads.
const (
	forward4    = "proc/sys/net/ipv4/ip_forward"
	forward6    = "proc/sys/net/ipv6/conf/all/forwarding"
	call4       = "proc/sys/net/bridge/bridge-nf-call-iptables"
	call6       = "proc/sys/net/bridge/bridge-nf-call-ip6tables"
	port        = "sys/class/net/cni0/brif/veth1"
	option4     = "sys/class/net/cni0/bridge/nf_call_iptables"
	option6     = "sys/class/net/cni0/bridge/nf_call_ip6tables"
	ipvs        = "proc/net/ip_vs"
	ipvsLink    = "sys/class/net/kube-ipvs0/mtu"
	ipvsHeading = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> " +
		"RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
	ipvsService  = "TCP  0A600001:01BB rr\n"
	notForwarded = "net.ipv4.ip_forward is 0"
)

// TestPreflight compares findings with trees of proc and sys. It looks for words that distinguish a finding from
// others.
func TestPreflight(t *testing.T) {
	type files map[string]string
	for name, tc := range map[string]struct {
		files files
		pods  int
		want  map[string]string
	}{
		"nothing can be read":     {nil, 3, nil},
		"both families forwarded": {files{forward4: "1\n", forward6: "1\n"}, 3, nil},
		"a cluster of IPv4":       {files{forward4: "1\n", forward6: "0\n"}, 3, nil},
		"a cluster of IPv6":       {files{forward4: "0\n", forward6: "1\n"}, 3, nil},
		"nothing forwarded": {files{forward4: "0\n", forward6: "0\n"}, 3,
			map[string]string{Forwarding: notForwarded}},
		"nothing forwarded, no IPv6": {files{forward4: "0\n"}, 3, map[string]string{Forwarding: notForwarded}},
		"a bridge, no br_netfilter": {files{port: ""}, 3,
			map[string]string{Bridge: "IPv4 and IPv6 traffic between pods on one bridge (cni0)"}},
		"a bridge, sysctls on": {files{port: "", call4: "1\n", call6: "1\n"}, 3, nil},
		"a bridge, sysctls off": {files{port: "", call4: "0\n", call6: "0\n"}, 3,
			map[string]string{Bridge: "bridge-nf-call is off"}},
		"a bridge, IPv6 off": {files{port: "", call4: "1\n", call6: "0\n"}, 3,
			map[string]string{Bridge: "IPv6 traffic"}},
		"a bridge, its options on": {files{port: "", call4: "0\n", call6: "0\n", option4: "1\n",
			option6: "1\n"}, 3, nil},
		"options, no br_netfilter": {files{port: "", option4: "1\n", option6: "1\n"}, 3,
			map[string]string{Bridge: "not loaded"}},
		"a bridge without ports": {files{"sys/class/net/cni0/bridge/stp_state": "0\n", call4: "0\n",
			call6: "0\n"}, 3, nil},
		"no bridge, sysctls off": {files{call4: "0\n", call6: "0\n"}, 3, nil},
		"two bridges, one option on": {files{port: "", "sys/class/net/br1/brif/veth2": "", call4: "0\n", call6: "1\n",
			option4: "1\n"}, 3, map[string]string{Bridge: "IPv4 traffic between pods on one bridge (br1)"}},
		"IPVS loaded but not in use":  {files{ipvs: ipvsHeading}, 3, nil},
		"IPVS with a service":         {files{ipvs: ipvsHeading + ipvsService}, 3, map[string]string{IPVS: "IPVS"}},
		"IPVS with kube-proxy's link": {files{ipvsLink: "1500\n"}, 3, map[string]string{IPVS: "IPVS"}},
		"no pods":                     {nil, 0, map[string]string{Node: "no pod of the cluster"}},
		"pods are not known yet":      {nil, -1, nil},
		"everything at once": {files{forward4: "0\n", forward6: "0\n", port: "", ipvs: ipvsHeading + ipvsService}, 0,
			map[string]string{Forwarding: "", Bridge: "", IPVS: "", Node: ""}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for path, content := range tc.files {
				tree[path] = &fstest.MapFile{Data: []byte(content)}
			}
			checkFindings(t, Check(tree, tc.pods), tc.want)
		})
	}
}

// checkFindings compares findings with the wanted ones: for each check, part of the problem's words.
func checkFindings(t *testing.T, got []Finding, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d findings, want %d: %+v", len(got), len(want), got)
	}
	for _, f := range got {
		words, wanted := want[f.Check]
		if !wanted || !strings.HasPrefix(f.Problem, words) && !strings.HasSuffix(f.Problem, words) {
			t.Errorf("finding %+v, want %q", f, want)
		}
		if f.Problem == "" || f.Remedy == "" || !slices.Contains(Checks(), f.Check) {
			t.Errorf("finding without words: %+v", f)
		}
	}
}

// TestManageBridges sets the sysctls, or says what is missing.
func TestManageBridges(t *testing.T) {
	root := t.TempDir()
	if err := ManageBridges(root); err == nil ||
		!strings.Contains(err.Error(), "bridge-nf-call-iptables is missing: load the kernel module br_netfilter") {
		t.Errorf("without br_netfilter: %v", err)
	}
	for _, name := range []string{call4, call6, port} {
		writeFile(t, filepath.Join(root, name), "0\n")
	}
	if err := ManageBridges(root); err != nil {
		t.Fatal(err)
	}
	checkFindings(t, Check(os.DirFS(root), 1), nil)
}

// TestManageBridgesUnchanged: what is already set is not written, as a container lacks the permission.
func TestManageBridgesUnchanged(t *testing.T) {
	root := t.TempDir()
	const set = "1" // without the newline that ManageBridges writes
	for _, name := range []string{call4, call6} {
		writeFile(t, filepath.Join(root, name), set)
	}
	if err := ManageBridges(root); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{call4, call6} {
		if text, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(text) != set {
			t.Errorf("%s was written: %q, %v", name, text, err)
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
