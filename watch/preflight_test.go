// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestPreflight holds the findings against trees of proc and sys.
func TestPreflight(t *testing.T) {
	const (
		forward = "proc/sys/net/ipv4/ip_forward"
		port    = "sys/class/net/veth1/brport/state"
		call4   = "proc/sys/net/bridge/bridge-nf-call-iptables"
		call6   = "proc/sys/net/bridge/bridge-nf-call-ip6tables"
		ipvs    = "proc/net/ip_vs"
		heading = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
	)
	for name, tc := range map[string]struct {
		files map[string]string
		pods  int
		want  []string
	}{
		"a good node":                 {map[string]string{forward: "1\n"}, 3, nil},
		"forwarding off":              {map[string]string{forward: "0\n"}, 3, []string{CheckForwarding}},
		"a bridge, no br_netfilter":   {map[string]string{forward: "1\n", port: ""}, 3, []string{CheckBridge}},
		"a bridge, sysctls on":        {map[string]string{forward: "1\n", port: "", call4: "1\n", call6: "1\n"}, 3, nil},
		"a bridge, IPv6 off":          {map[string]string{forward: "1\n", port: "", call4: "1\n", call6: "0\n"}, 3, []string{CheckBridge}},
		"no bridge, sysctls off":      {map[string]string{forward: "1\n", call4: "0\n", call6: "0\n"}, 3, nil},
		"IPVS loaded but not in use":  {map[string]string{forward: "1\n", ipvs: heading}, 3, nil},
		"IPVS with a service":         {map[string]string{forward: "1\n", ipvs: heading + "TCP  0A600001:01BB rr\n"}, 3, []string{CheckIPVS}},
		"IPVS with kube-proxy's link": {map[string]string{forward: "1\n", "sys/class/net/kube-ipvs0/mtu": ""}, 3, []string{CheckIPVS}},
		"no pods":                     {map[string]string{forward: "1\n"}, 0, []string{CheckNode}},
		"pods are not known yet":      {map[string]string{forward: "1\n"}, -1, nil},
		"nothing can be read":         {nil, 3, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for path, content := range tc.files {
				tree[path] = &fstest.MapFile{Data: []byte(content)}
			}
			var got []string
			for _, f := range Preflight(tree, tc.pods) {
				got = append(got, f.Check)
				if f.Problem == "" || f.Remedy == "" || !slices.Contains(Checks(), f.Check) {
					t.Errorf("finding without words: %+v", f)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("found %v, want %v", got, tc.want)
			}
		})
	}
}

// TestManageBridges sets the sysctls, or says what is missing.
func TestManageBridges(t *testing.T) {
	root := t.TempDir()
	if err := ManageBridges(root); err == nil || !strings.Contains(err.Error(), "load the kernel module br_netfilter") {
		t.Errorf("without br_netfilter: %v", err)
	}
	for _, path := range bridgeSysctls() {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte("0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := ManageBridges(root); err != nil {
		t.Fatal(err)
	}
	if off := bridgesSkipHook(os.DirFS(root)); off != "" {
		t.Errorf("after setting the sysctls: %s", off)
	}
}
