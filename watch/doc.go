// SPDX-License-Identifier: Apache-2.0

// Package watch is the loop that makes a node's table follow the cluster's objects. A [Source] feeds them to it, as to
// any [Sink].
//
// # Rooms
//
//	apiserver, folder    the sources: they tell a Sink, which the loop is, of the cluster's objects
//	     |
//	     v               runtime    tells a Gate, which the loop is too, of new pods
//	   watch
//	     |
//	     +--> drops, denied, flows    what the kernel logged, counted as denied, and counted as flows
//	     +--> events                  what users are told, as Events of their policies and pods
//	     +--> explain                 who decides about a flow
//	     +--> preflight               what keeps traffic from the policies
//
// None of these folders imports another one; cmd/netpold has them all, and gives the loop the kernel.
//
// In the drawings below, a file without a folder is in this package, and a folder is below it or below the module's
// root.
//
// # The way of a pod event
//
//	API server                     folder of manifests         container runtime
//	     | list, watch                  | inotify                   | RunPodSandbox, which waits
//	     v                              v                           v
//	apiserver/list.go, stream.go   folder/inotify_linux.go     runtime/plugin.go
//	     | bytes of an object           | a file has changed        | names and addresses of
//	     v                              v                           | the pod
//	apiserver/trim.go              folder/source_linux.go           |
//	     | what policies need           | has folder/read.go read   |
//	     v                              | it, and compares it with  |
//	apiserver/feed.go                   | what it was               |
//	     | one for each kind            |                           v
//	     v                              |                      admit.go  Loop.Admit, until
//	apiserver/source.go  setPod         |                           |    the kernel has it
//	     |                              |                           |
//	     +------------------------------+---------------------------+
//	                                    v
//	loop.go  Loop.Update: an edit of memory, under the loop's lock; then Loop.Run wakes
//	                                    |
//	                                    +--> translate/state.go  State.SetPod
//	                                    |    translate/index/pods.go: identity and owner of addresses
//	                                    |    translate/peers.go: which sets get them, dispatch; whose
//	                                    |    isolation is to be found
//	                                    |    translate/chain/sets.go, shared.go: the elements
//	                                    v
//	loop.go  Loop.Run: one goroutine, one transaction in flight; what comes meanwhile is the next
//	                                    |
//	                                    +--> doubt.go  Loop.look: has anybody else changed the
//	                                    |    table, as cmd/netpold/run.go hears from the kernel?
//	                                    v
//	loop.go  Loop.pending: the next transaction
//	                                    |
//	                                    +--> translate/portion.go  State.Portion: completes what
//	                                    |    follows from policies, or a portion of it
//	                                    +--> nft/table.go  Table.Take: what the kernel lacks of it
//	                                    |    nft/batch.go, bridge.go, retire.go: in which order, and
//	                                    |    what later
//	                                    v
//	commit.go  Loop.apply: a change, or a whole table while a handover is in force
//	                                    v
//	nft/kernel/conn.go  Conn.Apply
//	                                    |
//	                                    +--> nft/stages/stages.go: in how many commits
//	                                    +--> nft/kernel/message/encode.go: the bytes of one
//	                                    v
//	nft/kernel/commit.go  Conn.commit --> kernel
//	                                    v
//	loop.go  Loop.commit
//	     +- taken: admit.go lets the pod start; retire.go has what packets under way may have
//	     |  needed deleted when they have left
//	     +- refused: quarantine.go sets aside what is to blame, by translate/aside/ownership.go, or
//	     |  what search.go finds where the kernel does not name it; the rest is tried at once
//	     +- failed: the whole table is replaced, after a pause
//
// # The way of a denied packet
//
//	the end of an isolation's chain, a rule of a ClusterNetworkPolicy, or the guard
//	(translate/frame/frame.go, tier.go, guard.go)
//	     | log prefix "the chain's name"         | count in the pod's element, or in the rule; drop
//	     v                                       v
//	nft/nflog/reader.go, message.go, decode.go   nft/kernel/read.go  Reader.Elements, and
//	     | datagrams of up to 100 packets        nft/kernel/read.go      Reader.ChainCount: when
//	     v                                       | /metrics is asked for; commit.go tells what
//	cmd/netpold/nflog.go                         v transactions delete
//	     | a drops.Packet                        denied/denied.go  Counter.Read: each packet once
//	     v                                       v
//	drops/read.go  Log.Run: one goroutine        metrics.go  netpold_dropped_packets_total
//	     v
//	drops/window.go  Log.sort: what is only audited apart; Log.one: a packet like others of its
//	     |           window is one more of their count
//	     |
//	     +--> drops/record.go  Log.resolve, for the first: one look at the state for what denies, an
//	     |    isolation, a rule or the guard (drops/why.go), the pods at both ends, and the
//	     |    policies that decide. It makes a Record: names and reason, as of now
//	     +--> drops/top.go  Log.countPair, for all --> Log.ServeTop
//	     |    --> http_node.go: GET /drops/top --> cmd/netpold/drops.go: netpold drops --top
//	     v
//	drops/window.go  Log.tell: a line for the first, and one for more at the end of the window
//	     |
//	     +--> the log of netpold
//	     +--> loop.go  Loop.tellBlocked --> events/events.go  Recorder.Blocked
//	     |    --> events/queue.go  Recorder.write --> API server: an Event of the pod
//	     +--> drops/history.go  Log.remember --> Log.ServeLines
//	          --> http_node.go: GET /drops --> cmd/netpold/drops.go: netpold drops
//
// # The way of a flow
//
//	the base chains, with --observe (translate/observe/observe.go)
//	     | a new connection is counted in the element of its flow, and if it is denied in another
//	     v
//	nft/kernel/read.go  Reader.Elements: every few seconds, and when somebody asks
//	     v
//	flows/read.go  Log.Read: what was counted since; commit.go reads a table before it deletes it
//	     +--> flows/names.go  Log.resolve: pods and nodes at the addresses, as of now
//	     v
//	flows/history.go: a count for each flow and verdict
//	     v
//	flows/serve.go  Log.ServeFlows --> http_node.go: GET /flows
//	     --> cmd/netpold/flows.go: netpold flows
package watch
