// SPDX-License-Identifier: Apache-2.0

// Package preflight looks for ways in which a node's traffic bypasses the policies. It only reads files of proc and
// sys, except for the sysctls that [ManageBridges] sets.
package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Finding is something on the node that lets traffic bypass the policies.
type Finding struct {
	Check   string `json:"check"`   // one of [Checks]
	Problem string `json:"problem"` // what is not enforced because of it
	Remedy  string `json:"remedy"`  // how to fix it
}

// The checks; also the values of the label "check" of netpold_preflight_findings.
const (
	Forwarding = "ip-forward" // the node does not forward a family that pods have
	Bridge     = "bridge"     // traffic between ports of a bridge skips the forward hook
	IPVS       = "ipvs"       // traffic to Services skips the forward hook
	Node       = "node"       // no pod is on a node of this name
	Gate       = "gate"       // the container runtime does not report new pods; found by its client, not by Check
	Listen     = "listen"     // the endpoints are not served; not by Check either
	Guard      = "guard"      // the node's pod addresses are not known; not by Check either
)

// Checks returns all checks.
func Checks() []string { return []string{Forwarding, Bridge, IPVS, Node, Gate, Guard, Listen} }

// Check looks for what lets traffic bypass the policies, in the proc and sys below root. pods is the number of pods on
// this node according to the source; negative if not known yet. Unreadable files are not findings.
func Check(root fs.FS, pods int) []Finding {
	return slices.Concat(checkForwarding(root), checkBridges(root), checkIPVS(root), checkNode(pods))
}

// bridgeSwitches send a family's bridged packets through the IP hooks: a sysctl for all bridges, or an option of one.
type bridgeSwitches struct{ family, sysctl, option string }

const bridgeSysctls = "proc/sys/net/bridge" // exists once the kernel module br_netfilter is loaded

func bridgeFamilies() []bridgeSwitches {
	return []bridgeSwitches{
		{"IPv4", "bridge-nf-call-iptables", "nf_call_iptables"},
		{"IPv6", "bridge-nf-call-ip6tables", "nf_call_ip6tables"},
	}
}

// checkBridges looks for bridges whose ports reach each other without crossing the forward hook.
func checkBridges(root fs.FS) []Finding {
	loaded := exists(root, bridgeSysctls)
	var families, found, off []string
	for _, f := range bridgeFamilies() {
		skip := slices.DeleteFunc(bridgesWithPorts(root), func(b string) bool { return loaded && f.on(root, b) })
		if len(skip) > 0 {
			families, found, off = append(families, f.family), append(found, skip...),
				append(off, "net.bridge."+f.sysctl+"=1")
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	problem := fmt.Sprintf("%s traffic between pods on one bridge (%s) does not cross the forward hook, so no policy "+
		"applies to it: ",
		strings.Join(families, " and "), strings.Join(slices.Compact(found), ", "))
	if !loaded {
		return []Finding{{Bridge, problem + "the kernel module br_netfilter is not loaded",
			"on the node: modprobe br_netfilter, which sets its sysctls to 1; and name it in /etc/modules-load.d for " +
				"the next boot"}}
	}
	return []Finding{{Bridge, problem + "bridge-nf-call is off",
		"on the node: sysctl -w " + strings.Join(off,
			" ") + ", and the same in /etc/sysctl.d; or start netpold with --manage-br-netfilter"}}
}

// on says whether the family's packets between ports of a bridge pass the IP hooks.
func (s bridgeSwitches) on(root fs.FS, bridge string) bool {
	return setting(root, path.Join(bridgeSysctls, s.sysctl)) == "1" ||
		setting(root, path.Join("sys/class/net", bridge, "bridge", s.option)) == "1"
}

// bridgesWithPorts returns the names of the bridges that have ports.
func bridgesWithPorts(root fs.FS) []string {
	var names []string
	links, _ := fs.ReadDir(root, "sys/class/net") // no sysfs, no bridges
	for _, link := range links {
		ports, err := fs.ReadDir(root, path.Join("sys/class/net", link.Name(), "brif")) // only bridges have it
		if err == nil && len(ports) > 0 {
			names = append(names, link.Name())
		}
	}
	return names
}

// checkIPVS looks for IPVS virtual services, which take packets at the input hook and send them on from the output
// hook.
func checkIPVS(root fs.FS) []Finding {
	const heading = 3 // lines at the top of the file
	services, _ := fs.ReadFile(root, "proc/net/ip_vs")
	if strings.Count(string(services), "\n") <= heading && !exists(root, "sys/class/net/kube-ipvs0") {
		return nil
	}
	return []Finding{{IPVS,
		"IPVS (kube-proxy's mode ipvs) forwards traffic to Services without the forward hook: no egress policy of " +
			"this node applies to it, and no ingress policy of a local pod that gets it",
		"run kube-proxy in mode nftables or iptables, and remove what the old mode left: kube-proxy --cleanup, or " +
			"reboot the node"}}
}

func checkNode(pods int) []Finding {
	if pods != 0 {
		return nil
	}
	return []Finding{{Node, "no pod of the cluster is on a node of this name, so no policy applies here",
		"compare --node (or $NODE_NAME) with `kubectl get nodes`; a node that is new, or drained, has " +
			"no pods for a while"}}
}

func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

// setting returns the content of a sysctl or sysfs file, or "" if it cannot be read.
func setting(root fs.FS, name string) string {
	text, _ := fs.ReadFile(root, name)
	return strings.TrimSpace(string(text))
}

// ManageBridges sets the sysctls below root ("/") that send bridged traffic through the forward hook, unless they are
// set.
func ManageBridges(root string) error {
	for _, f := range bridgeFamilies() {
		file := filepath.Join(root, bridgeSysctls, f.sysctl)
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--manage-br-netfilter: %s is missing: load the kernel module br_netfilter", file)
		}
		if err == nil && strings.TrimSpace(string(text)) != "1" {
			err = os.WriteFile(file, []byte("1\n"), 0o644) //nolint:gosec // a sysctl has its own mode
		}
		if errors.Is(err, syscall.EROFS) {
			return fmt.Errorf("--manage-br-netfilter: %w: only privileged containers may write it; set the sysctl "+
				"on the node", err)
		}
		if err != nil {
			return fmt.Errorf("--manage-br-netfilter: %w", err)
		}
	}
	return nil
}
