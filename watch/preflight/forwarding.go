// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// forwarding decides whether a family's packets cross the forward hook.
type forwarding struct {
	family, sysctl string
	routes         func(fs.FS) []route
	also           string // what else to consider before setting the sysctl
}

func forwardings() []forwarding {
	return []forwarding{
		{"IPv4", "net.ipv4.ip_forward", routes4, ""},
		{"IPv6", "net.ipv6.conf.all.forwarding", routes6,
			" (if the node has its address from router advertisements, net.ipv6.conf.<link>.accept_ra=2 as well, " +
				"or it loses its address)"},
	}
}

// checkForwarding looks for a family that the node does not forward although it has pods of it: routes to links other
// than its uplinks, which are the links of default routes. (On its uplink a node has addresses even in families that
// the cluster does not use.) A node that forwards nothing is always a finding.
func checkForwarding(root fs.FS) []Finding {
	var on, off, used []forwarding
	links := make(map[string]struct{})
	for _, f := range forwardings() {
		switch setting(root, "proc/sys/"+strings.ReplaceAll(f.sysctl, ".", "/")) {
		case "": // not in this kernel
		case "0":
			off = append(off, f)
			if found := podLinks(f.routes(root)); len(found) > 0 {
				used = append(used, f)
				maps.Copy(links, found)
			}
		default:
			on = append(on, f)
		}
	}
	if len(on) == 0 && len(used) == 0 {
		used = off // pods will come
	}
	if len(used) == 0 {
		return nil
	}
	var families, zero, set, rest []string
	for _, f := range used {
		families, zero, set = append(families, f.family), append(zero, f.sysctl+" is 0"),
			append(set, f.sysctl+"=1"+f.also)
	}
	for _, f := range on {
		rest = append(rest, "; "+f.family+" is forwarded")
	}
	return []Finding{{Forwarding,
		fmt.Sprintf("%s: this node routes no %s packet to or from pods%s, so no policy ever sees one%s",
			strings.Join(zero, " and "), strings.Join(families, " or "), behind(links), strings.Join(rest, "")),
		"on the node: sysctl -w " + strings.Join(set, " ") + "; and the same in /etc/sysctl.d"}}
}

// behind names the links that lead to pods.
func behind(links map[string]struct{}) string {
	const most = 3
	names := slices.Sorted(maps.Keys(links))
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		return fmt.Sprintf(" (behind %s and %d more)", strings.Join(names[:most], ", "), len(names)-most)
	}
	return fmt.Sprintf(" (behind %s)", strings.Join(names, ", "))
}

// route is a route to other hosts, or to pods.
type route struct {
	link     string
	anywhere bool // a default route
}

// podLinks returns the links of routes without a default route.
func podLinks(routes []route) map[string]struct{} {
	links := make(map[string]struct{})
	for _, r := range routes {
		links[r.link] = struct{}{}
	}
	for _, r := range routes {
		if r.anywhere {
			delete(links, r.link)
		}
	}
	return links
}

// routes4 reads the main table. Its numbers are in host byte order; a route that leads nowhere has no link.
func routes4(root fs.FS) []route {
	const destination, mask = 1, 7
	return routesOf(root, "proc/net/route", func(columns []string) (route, bool) {
		if len(columns) <= mask || columns[0] == "*" || columns[destination] == "Destination" {
			return route{}, false
		}
		r := route{columns[0], columns[mask] == "00000000"}
		return r, r.link != "lo"
	})
}

// routes6 reads all tables, without the routes that the kernel adds by itself: to the node's own addresses, multicast
// and link-local.
func routes6(root fs.FS) []route {
	const destination, length, flags, link = 0, 1, 8, 9
	const reject = 0x0200 // RTF_REJECT
	return routesOf(root, "proc/net/ipv6_route", func(columns []string) (route, bool) {
		if len(columns) <= link || columns[link] == "lo" || strings.HasPrefix(columns[destination], "ff") ||
			strings.HasPrefix(columns[destination], "fe8") {
			return route{}, false
		}
		const local = 0x80000000 | 0x00100000 // RTF_LOCAL, RTF_ANYCAST
		set, err := strconv.ParseUint(columns[flags], 16, 32)
		return route{columns[link], columns[length] == "00"}, err == nil && set&(local|reject) == 0
	})
}

// routesOf returns the routes that of finds in the lines of a file.
func routesOf(root fs.FS, file string, of func(columns []string) (route, bool)) []route {
	text, _ := fs.ReadFile(root, file) // without it, no routes are known
	var routes []route
	for line := range strings.Lines(string(text)) {
		if r, ok := of(strings.Fields(line)); ok {
			routes = append(routes, r)
		}
	}
	return routes
}
