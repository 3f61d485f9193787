// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// The parts of answers.
type (
	// Ports is a set of protocols and ports.
	Ports = sets.Ports
	// Networks is a set of addresses.
	Networks = sets.Networks
	// Span is a range of addresses.
	Span = sets.Span
	// Roster has the workloads that an answer is about.
	Roster = roster.Roster
	// Side is one side of connections: workloads of a roster, or networks.
	Side = roster.Side
	// Workload is what an operator deploys as a unit.
	Workload = roster.Workload
)

// Everything stands for every workload in [Roster.Text].
const Everything = roster.Everything

// WorkloadOf returns the workload that a pod belongs to; see [roster.WorkloadOf].
func WorkloadOf(p *policy.Pod) Workload { return roster.WorkloadOf(p) }
