// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/preflight"
	"github.com/netpold/netpold/watch/runtime"
)

// What --gate may be.
const (
	gateClosed = "closed"
	gateOpen   = "open"
	gateOff    = "off"
)

// gateFlags say how new pods are held back until their policies are in force.
type gateFlags struct {
	mode, socket string
	timeout      time.Duration
}

func (f *gateFlags) add(cmd *cobra.Command) {
	command.OneOf(&f.mode, gateClosed, gateOpen, gateOff).Add(cmd, pflag.Flag{Name: "gate",
		Usage: "new pods whose policies are late: closed (do not start; the kubelet retries), open (start anyway), " +
			"or off (no gate) (default closed; off with --manifests)"})
	cmd.Flags().DurationVar(&f.timeout, "gate-timeout", 1500*time.Millisecond,
		"how long a new pod may wait; keep it below the runtime's own limit, 2s")
	cmd.Flags().StringVar(&f.socket, "gate-socket", runtime.DefaultSocket, "NRI socket of the container runtime")
}

// check completes the flags. Without an API server there is neither kubelet nor runtime, so no gate.
func (f *gateFlags) check(manifests string) error {
	if f.mode == "" {
		f.mode = gateClosed
		if manifests != "" {
			f.mode = gateOff
		}
	}
	if f.timeout <= 0 {
		return fmt.Errorf("--gate-timeout=%s: want more than 0", f.timeout)
	}
	return nil
}

// plugin returns the NRI plugin that gates new pods, or nil if there is no gate.
func (f *gateFlags) plugin(loop *watch.Loop, node string, log *slog.Logger) *runtime.Plugin {
	if f.mode == gateOff {
		return nil
	}
	return runtime.New(runtime.Config{
		Gate: loop, Node: node, Socket: f.socket, Timeout: f.timeout, Open: f.mode == gateOpen, Log: log,
	})
}

// gateFindings reports why new pods are not held back.
func gateFindings(p *runtime.Plugin) []preflight.Finding {
	if p == nil || p.Problem() == "" {
		return nil
	}
	return []preflight.Finding{{
		Check:   preflight.Gate,
		Problem: runtime.Unprotected + ": " + p.Problem(),
		Remedy:  "enable NRI in containerd 2.1 or CRI-O 1.32 and mount /var/run/nri, or run with --gate=off",
	}}
}
