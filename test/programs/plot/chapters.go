// SPDX-License-Identifier: Apache-2.0

package main

// chapter is a part of the document: words, and measures.
type chapter struct {
	title, text string
	figures     []figure
}

// figure is a measure in the document.
type figure struct {
	id     string
	beside string   // the id of a measure whose columns come first in the table
	hidden []string // series that are in the table alone
	noPlot bool     // the table says it all
}

const opening = "What netpold costs on one machine, measured by `make bench` and written by it: no figure here is " +
	"by hand. What is compared was measured\n" +
	"in turn within one run, in rounds; a figure is the median of the rounds, with the least and the greatest beside " +
	"it, so that the noise\n" +
	"is there to be seen."

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
			title: "Connections that are under way", text: establishedText,
			figures: []figure{
				{id: "established", beside: "established/baseline", hidden: []string{"the same again"}},
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
	return figure{id: "packet/" + id, beside: "packet/" + id + "/baseline", hidden: []string{"the same again"}}
}

const packetText = `What a new connection costs more than in a node that tracks connections and has no rules for
forwarded packets. A process writes a UDP datagram of a new flow to a TUN device; the kernel forwards it within the
write, up to the device where it leaves; the CPU time of the thread is the cost. The spaces that are compared
(conntrack alone, netpold, the reference) are network namespaces beside each other, which get a slice of packets
each, every time in another order, and before it some that are not measured, as the one before leaves the processor's
caches to it. A table of netpold is that of translate.State, committed by nft/kernel, with the defaults of netpold run.

"A chain per policy" is the reference: the same policies as most programs of this kind write them, as well as that
way allows. One lookup finds the pod's chain, that jumps to a chain for each policy that selects the pod, and that
has a rule with a set for each rule of the policy. "The same again" is conntrack alone against itself: what differs
by less means nothing.

The form of the table is compared with the one that it had up to version 0.1, a base chain for each direction, whose
text is loaded beside it; and with the guard of unknown pods, which compares other packets with the node's pod
range; and with [flows counted](flows.md).`

const establishedText = `The packets that follow the first: one flow, whose next packets are measured as above; and a
TCP connection between two network namespaces through a third one, that has the table in one slice of time and not
in the next.`

const controlText = `How long it takes from an event to the kernel's commit. In the process: watch.Loop with a
translate.State and a connection to the kernel, in a network namespace of its own; what a source does before (to
receive and decode an object) is not in it. One event at a time; p50 and p99 are of the events of a round.

The cluster is synthetic: namespaces of 100 pods each, of 20 applications; 110 pods on the node; policies of eight
usual kinds (nothing comes in; an application; the namespaces of a team; an application there; a database and DNS;
the world but not the cluster; what can be scraped; a range of ports) in every namespace in turn.`

const memoryText = `netpold run, as make build makes it, against a server that stands in for an API server: it
streams the same clusters in protobuf over TLS, each pod with all the fields of a real one, 4 to 5 kB of them.`
