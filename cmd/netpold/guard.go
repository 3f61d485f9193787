// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/preflight"
)

// guardFlags say what to do with this node's pod addresses that belong to no known pod.
type guardFlags struct {
	mode          string
	ranges, links []string
}

func (f *guardFlags) add(cmd *cobra.Command) {
	command.OneOf(&f.mode, "deny", "allow", "auto").Add(cmd, pflag.Flag{Name: "unknown-pods", DefValue: "auto",
		Usage: "traffic to and from this node's pod addresses that belong to no known pod: deny, allow, or auto " +
			"(deny once the container runtime has reported a pod)"})
	cmd.Flags().StringSliceVar(&f.ranges, "pod-ranges", nil,
		"CIDRs that only this node's pods use; needed if its Node has no podCIDRs")
	cmd.Flags().StringSliceVar(&f.links, "pod-links", nil,
		"links that only pods use, such as cali*; needed if pod addresses cannot be told apart otherwise")
}

// set sets the guard of o.
func (f *guardFlags) set(o *translate.Options) error {
	mode := map[string]guard.UnknownPods{"deny": guard.Deny, "allow": guard.Allow, "auto": guard.Auto}[f.mode]
	var ranges []netip.Prefix
	for _, text := range f.ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Bits() == 0 || p.Addr().Is4In6() {
			return fmt.Errorf("--pod-ranges=%s: want CIDRs, such as 10.244.1.0/24", text)
		}
		ranges = append(ranges, p)
	}
	for _, name := range f.links {
		prefix := strings.TrimSuffix(name, "*")
		if prefix == "" || len(prefix) >= unix.IFNAMSIZ || strings.ContainsAny(prefix, "*\"/ \t\n") {
			return fmt.Errorf("--pod-links=%s: want link names or prefixes, such as cali*", name)
		}
	}
	o.Guard = guard.Options{UnknownPods: mode, Ranges: guard.Ranges(ranges), Links: f.links}
	return nil
}

// openKernel opens the kernel for tables with these options. If the kernel cannot guard and nobody asked for it, it
// turns the guard off.
func openKernel(o *translate.Options, flags runFlags, log *slog.Logger) (*kernel.Conn, error) {
	conn, err := kernel.Open(kernel.Config{Needs: needs(*o), Own: flags.own})
	if o.Guard.UnknownPods != guard.Auto || !errors.Is(err, kernel.ErrNotSupported) {
		return conn, err
	}
	without := *o
	without.Guard.UnknownPods = guard.Allow
	conn, again := kernel.Open(kernel.Config{Needs: needs(without), Own: flags.own})
	if again != nil {
		return nil, err
	}
	log.Warn("the kernel cannot deny unknown pods; running as with --unknown-pods=allow", "err", err)
	*o = without
	return conn, nil
}

// guardFindings reports why unknown pods are allowed.
func guardFindings(g watch.GuardReport) []preflight.Finding {
	if !g.Unsure {
		return nil
	}
	return []preflight.Finding{{
		Check:   preflight.Guard,
		Problem: "pods unknown to netpold are unprotected, such as those that start while it restarts: " + g.Off,
		Remedy:  "--pod-ranges or --pod-links, or --unknown-pods=allow",
	}}
}
