// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// What answers are made of.
type (
	// Ports is what a connection may ask for.
	Ports = sets.Ports
	// Networks is a set of addresses.
	Networks = sets.Networks
	// Span is the addresses from one to another.
	Span = sets.Span
	// Roster is the workloads that an answer is about.
	Roster = roster.Roster
	// Side is one side of connections: workloads of a roster, or networks.
	Side = roster.Side
	// Workload is what an operator deploys as one.
	Workload = roster.Workload
)

// Everything is every workload, as [Roster.Text] says it.
const Everything = roster.Everything

// WorkloadOf returns the workload that a pod belongs to; see [roster.WorkloadOf].
func WorkloadOf(p *policy.Pod) Workload { return roster.WorkloadOf(p) }
