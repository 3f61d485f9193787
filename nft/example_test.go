// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"fmt"
	"net/netip"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
)

// web is a table in which the pod 10.0.0.5 accepts connections only from 10.0.0.7.
func web() *nft.Table {
	t := nft.NewTable("netpold", "")
	peers := t.Set("peers-4", nft.SetType{Family: nft.IPv4}, "pods app=client")
	peers.Want(nft.AddrKey(netip.MustParseAddr("10.0.0.7")), nft.Value{Comment: "default/client"})
	t.SetChain(&nft.Chain{Name: "ingress-web", Rules: []nft.Rule{
		nft.R(nft.LookupIn(nft.Source, peers), nft.Verdict{Kind: nft.Accept}),
		nft.R(nft.Counter{}, nft.Verdict{Kind: nft.Drop}),
	}})
	pods := t.Set("ingress-pods-4", nft.SetType{Family: nft.IPv4, Map: true}, "")
	pods.Want(nft.AddrKey(netip.MustParseAddr("10.0.0.5")), nft.Value{Verdict: nft.GotoChain("ingress-web")})
	t.SetChain(&nft.Chain{Name: "forward-ingress", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.CtState{nft.Established, nft.Related}, nft.Verdict{Kind: nft.Accept}),
		nft.R(nft.LookupIn(nft.Destination, pods)),
	}})
	return t
}

// A table says what should exist, as text that nft(8) loads.
func ExampleTable() {
	fmt.Print(web())
	// Output:
	// table inet netpold {
	// 	map ingress-pods-4 {
	// 		type ipv4_addr : verdict
	// 		elements = { 10.0.0.5 : goto ingress-web }
	// 	}
	//
	// 	set peers-4 {
	// 		type ipv4_addr
	// 		comment "pods app=client"
	// 		elements = { 10.0.0.7 comment "default/client" }
	// 	}
	//
	// 	chain forward-ingress {
	// 		type filter hook forward priority filter; policy accept;
	// 		ct state established,related accept
	// 		ip daddr vmap @ingress-pods-4
	// 	}
	//
	// 	chain ingress-web {
	// 		ip saddr @peers-4 accept
	// 		counter drop
	// 	}
	// }
}

// After the first transaction, which replaces the table, each has only what has changed since.
func ExampleTable_Take() {
	t := web()
	fmt.Println("replaces the table:", t.Take().Replaces())

	peers := t.FindSet("peers-4")
	peers.Unwant(nft.AddrKey(netip.MustParseAddr("10.0.0.7")))
	peers.Want(nft.AddrKey(netip.MustParseAddr("10.0.0.8")), nft.Value{})
	fmt.Print(t.Take())

	fmt.Println("nothing has changed:", t.Take() == nil)
	// Output:
	// replaces the table: true
	// delete element inet netpold peers-4 { 10.0.0.7 }
	// add element inet netpold peers-4 { 10.0.0.8 }
	// nothing has changed: true
}

// When a transaction fails, nobody knows what the kernel holds, and the next one replaces the table.
func ExampleTable_Forget() {
	t := web()
	t.Take()
	t.Forget()
	fmt.Println(t.Take().Replaces())
	// Output: true
}

// A trace tells why a connection is allowed or denied.
func ExampleTable_trace() {
	t := web()
	for _, peer := range []string{"10.0.0.7", "10.0.0.8"} {
		f := trace.Packet{
			Src: netip.MustParseAddr(peer), Dst: netip.MustParseAddr("10.0.0.5"), Proto: nft.TCP, DstPort: 80,
		}
		trail, err := trace.Follow(t, f)
		steps, verdict := trail.Steps, trail.Verdict
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", f, verdict)
		for _, s := range steps {
			fmt.Printf("  %s: %s\n", s.Chain, s.Rule)
		}
	}
	// Output:
	// 10.0.0.7 -> 10.0.0.5 tcp/80: accept
	//   forward-ingress: ip daddr vmap @ingress-pods-4
	//   ingress-web: ip saddr @peers-4 accept
	// 10.0.0.8 -> 10.0.0.5 tcp/80: drop
	//   forward-ingress: ip daddr vmap @ingress-pods-4
	//   ingress-web: counter drop
}

// Ports are written in the shortest form.
func ExamplePorts() {
	fmt.Println(nft.Ports{{Proto: nft.TCP, First: 80, Last: 80}})
	fmt.Println(nft.Ports{{Proto: nft.TCP, First: 80, Last: 80}, {Proto: nft.TCP, First: 8000, Last: 9000}})
	fmt.Println(nft.Ports{{Proto: nft.TCP, First: 80, Last: 80}, {Proto: nft.UDP, First: 53, Last: 53}})
	fmt.Println(nft.Ports{{Proto: nft.SCTP, First: 0, Last: 65535}})
	// Output:
	// tcp dport 80
	// tcp dport { 80, 8000-9000 }
	// meta l4proto . th dport { tcp . 80, udp . 53 }
	// meta l4proto sctp
}
