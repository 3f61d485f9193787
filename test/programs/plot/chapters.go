// SPDX-License-Identifier: Apache-2.0

package main

// chapter is a part of the document: text and measures.
type chapter struct {
	title, text string
	figures     []figure
}

// again is the series that compares conntrack alone with itself.
const again = "conntrack alone again"

// figure is a measure in the document.
type figure struct {
	id     string
	beside string   // the id of a measure whose columns come first in the table
	hidden []string // series that are only in the table
	noPlot bool     // the table is enough
}

const opening = "What netpold costs on one machine. `make bench` measures it and writes this page; no figure is " +
	"entered by hand. What is compared was measured in turn within one run, in rounds. A figure is the median of the " +
	"rounds, followed by the least and the greatest, which show the noise."

func chapters() []chapter {
	return []chapter{
		{
			title: "Packet path", text: packetText,
			figures: []figure{
				packetFigure("policies"), packetFigure("rules"), packetFigure("peers"),
				packetFigure("blocks"), packetFigure("local"), packetFigure("outside"),
				packetFigure("tiers"),
				packetFigure("sequence"),
				{id: "packet/parts", noPlot: true},
				{id: "packet/forms", noPlot: true}, {id: "packet/forms/ratio", noPlot: true},
			},
		},
		{
			title: "Established connections", text: establishedText,
			figures: []figure{
				{id: "established", beside: "established/baseline", hidden: []string{again}},
				{id: "throughput", beside: "throughput/baseline", noPlot: true},
			},
		},
		{
			title: "Control path", text: controlText,
			figures: []figure{
				{id: "control/pod"}, {id: "control/kind"}, {id: "control/local"}, {id: "control/policy"},
				{id: "control/start"},
				{id: "control/relabel", noPlot: true}, {id: "control/relabel/transactions", noPlot: true},
			},
		},
		{
			title: "The program", text: memoryText,
			figures: []figure{
				{id: "memory/rss"}, {id: "memory/peak", noPlot: true}, {id: "memory/cpu"},
				{id: "memory/cpu/heartbeats", noPlot: true}, {id: "memory/heap", noPlot: true},
				{id: "memory/kernel"}, {id: "memory/shared", beside: "memory/shared/sets", noPlot: true},
				{id: "memory/binary", noPlot: true},
			},
		},
	}
}

func packetFigure(id string) figure {
	return figure{id: "packet/" + id, beside: "packet/" + id + "/baseline", hidden: []string{again}}
}

const packetText = `What a new connection costs, compared with a node that tracks connections but has no rules for
forwarded packets. A process writes a UDP datagram of a new flow to a TUN device; the kernel forwards it within that
write, up to the device where it leaves; the cost is the thread's CPU time. The contenders (conntrack alone, netpold,
the reference) are network namespaces side by side. They take turns, each time in another order, and each turn begins
with some unmeasured packets that fill the processor's caches. netpold's table is made by translate.State and
committed by nft/kernel, with the defaults of netpold run.

"A chain per policy" is the reference: the same policies as most programs of this kind write them, as good as that
form allows. One lookup finds the pod's chain, which jumps to a chain for each policy that selects the pod, which has
a rule with a set for each rule of the policy. "Conntrack alone again" compares conntrack alone with itself: smaller
differences mean nothing.

The form of the table is compared with that of version 0.1, which had a base chain for each direction; with the guard
of unknown pods, which compares more packets with the node's pod range; and with [flows counted](flows.md).`

const establishedText = `The packets after the first one: those of one flow, measured as above; and a TCP connection
between two network namespaces through a third one, which has the table in one slice of time and not in the next.`

const controlText = `How long it takes from an event to the kernel's commit, in one process: watch.Loop with a
translate.State and a connection to the kernel, in its own network namespace. Receiving and decoding an object, which
its source does, is not included. Events come one at a time; p50 and p99 are over the events of a round.

The cluster is synthetic: namespaces of 100 pods each, of 20 applications; 110 pods on the node; and, in every
namespace in turn, policies of eight common kinds: nothing may connect; one application may; the namespaces of a team
may; an application there may; a database and DNS may be reached; the world but not the cluster; what is scraped; a
range of ports.`

const memoryText = `netpold run, as make build makes it, with a server in place of an API server. It streams the same
clusters in protobuf over TLS, each pod with all the fields of a real one, 4 to 5 kB.`
