// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/preflight"
)

// guardFlags say what becomes of addresses for pods of this node that no known pod has.
type guardFlags struct {
	mode          string
	ranges, links []string
}

func (f *guardFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.mode, "unknown-pods", "auto",
		"traffic from and to pod addresses of this node that no known pod has: deny, allow, or auto (deny once the "+
			"container runtime has reported a pod)")
	cmd.Flags().StringSliceVar(&f.ranges, "pod-ranges", nil,
		"CIDRs of this node's pods alone; used where the podCIDRs of its Node are not known")
	cmd.Flags().StringSliceVar(&f.links, "pod-links", nil,
		"links that only pods use, such as cali*; needed where pod addresses are not known otherwise")
}

// set completes options by the flags.
func (f *guardFlags) set(o *translate.Options) error {
	modes := map[string]guard.UnknownPods{
		"deny": guard.Deny, "allow": guard.Allow, "auto": guard.Auto,
		"": guard.Allow, // of a command that makes no table
	}
	mode, known := modes[f.mode]
	if !known {
		return fmt.Errorf("--unknown-pods=%s: want deny, allow or auto", f.mode)
	}
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

// openKernel opens the kernel for tables of the options, and takes the guard from them where it is not asked for and
// the kernel cannot have it.
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

// guardFindings says that unknown pods are allowed, as nobody tells which addresses are for pods.
func guardFindings(g watch.GuardReport) []preflight.Finding {
	if !g.Unsure {
		return nil
	}
	return []preflight.Finding{{
		Check:   preflight.Guard,
		Problem: "pods that netpold does not know of are unprotected, as while it restarts: " + g.Off,
		Remedy:  "--pod-ranges or --pod-links, or --unknown-pods=allow",
	}}
}
