// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Finding is something on the node that keeps traffic from the policies.
type Finding struct {
	Check   string `json:"check"`   // one of [Checks]
	Problem string `json:"problem"` // what is not enforced because of it
	Remedy  string `json:"remedy"`  // how to mend it
}

// The checks; also the values of the label "check" of netpold_preflight_findings.
const (
	CheckForwarding = "ip-forward" // the node does not forward
	CheckBridge     = "bridge"     // traffic between ports of a bridge skips the forward hook
	CheckIPVS       = "ipvs"       // traffic to Services skips the forward hook
	CheckNode       = "node"       // no pod is on a node of this name
)

// Checks returns all checks.
func Checks() []string { return []string{CheckForwarding, CheckBridge, CheckIPVS, CheckNode} }

// The sysctls that send what a bridge forwards through the hooks of IP, and those that let the node forward.
func bridgeSysctls() []string {
	return []string{"proc/sys/net/bridge/bridge-nf-call-iptables", "proc/sys/net/bridge/bridge-nf-call-ip6tables"}
}

// Preflight looks for what keeps traffic from the policies, in the files of the network namespace that it runs in: root has its proc
// and sys. Pods is how many pods are on this node by what the source says; negative when it has not said yet.
func Preflight(root fs.FS, pods int) []Finding {
	var found []Finding
	add := func(check, problem, remedy string) { found = append(found, Finding{check, problem, remedy}) }
	if isZero(root, "proc/sys/net/ipv4/ip_forward") {
		add(CheckForwarding, "net.ipv4.ip_forward is 0: this node forwards no IPv4 packet between pods, so there is nothing to enforce",
			"sysctl -w net.ipv4.ip_forward=1, and make it permanent")
	}
	ports, _ := fs.Glob(root, "sys/class/net/*/brport") // the pattern is right
	if off := bridgesSkipHook(root); len(ports) > 0 && off != "" {
		add(CheckBridge, fmt.Sprintf("%s is a port of a bridge and %s: traffic between pods on one bridge skips netpold",
			filepath.Base(filepath.Dir(ports[0])), off),
			"start netpold with --manage-br-netfilter, or: modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
	}
	if usesIPVS(root) {
		add(CheckIPVS, "kube-proxy runs in IPVS mode: traffic to Services is delivered without the forward hook, so policies do not see it",
			"run kube-proxy in nftables or iptables mode")
	}
	if pods == 0 {
		add(CheckNode, "no pod of the cluster is on a node of this name, so no policy applies here",
			"check --node (or $NODE_NAME) against the names that `kubectl get nodes` lists; a new node has none for a moment")
	}
	return found
}

// bridgesSkipHook says why bridged traffic does not pass the forward hook, or "".
func bridgesSkipHook(root fs.FS) string {
	for _, path := range bridgeSysctls() {
		text, err := fs.ReadFile(root, path)
		switch {
		case err != nil:
			return "br_netfilter is not loaded"
		case strings.TrimSpace(string(text)) == "0":
			return "net.bridge." + filepath.Base(path) + " is 0"
		}
	}
	return ""
}

// usesIPVS says whether virtual services of IPVS exist. The file's first three lines are its heading.
func usesIPVS(root fs.FS) bool {
	if _, err := fs.Stat(root, "sys/class/net/kube-ipvs0"); err == nil {
		return true
	}
	text, err := fs.ReadFile(root, "proc/net/ip_vs")
	return err == nil && strings.Count(strings.TrimSpace(string(text)), "\n") >= 3
}

func isZero(root fs.FS, path string) bool {
	text, err := fs.ReadFile(root, path)
	return err == nil && strings.TrimSpace(string(text)) == "0"
}

// ManageBridges sets the sysctls that send what a bridge forwards through the forward hook, below root ("/").
func ManageBridges(root string) error {
	for _, path := range bridgeSysctls() {
		err := os.WriteFile(filepath.Join(root, path), []byte("1\n"), 0o644) //nolint:gosec // a sysctl has its own mode
		if os.IsNotExist(err) {
			return fmt.Errorf("--manage-br-netfilter: /%s is not there: load the kernel module br_netfilter", path)
		}
		if err != nil {
			return fmt.Errorf("--manage-br-netfilter: %w", err)
		}
	}
	return nil
}
