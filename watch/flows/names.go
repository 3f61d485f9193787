// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// young is how long a flow may still get a name, such as that of a pod that connected before the API server reported
// it, and how long the previous owner of an address is remembered.
const young = 30 * time.Second

// someNames is how many addresses are looked up in one hold of the state's lock.
const someNames = 256

// resolve returns who has these addresses now, or had them just before.
func (l *Log) resolve(addresses map[netip.Addr]struct{}) map[netip.Addr]flows.End {
	ends := make(map[netip.Addr]flows.End, len(addresses))
	if len(addresses) == 0 {
		return ends
	}
	var own []netip.Addr
	if l.config.Addresses != nil {
		own, _ = l.config.Addresses() // on an error, the node's addresses stay nameless
	}
	for some := range slices.Chunk(slices.Collect(maps.Keys(addresses)), someNames) {
		l.config.View(func(s *translate.State) {
			for _, a := range some {
				pod, isPod := s.PodAt(a)
				_, isHost := s.HostAt(a)
				switch {
				case isPod:
					ends[a] = endOf(a, &pod)
				case isHost:
					ends[a] = flows.End{Address: a, Host: true}
				default:
					ends[a] = flows.End{Address: a}
				}
			}
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, end := range ends {
		switch former, left := l.former[a]; {
		case end.Pod != "" || end.Host:
		case left:
			ends[a] = former.end
		case slices.Contains(own, a):
			ends[a] = flows.End{Address: a, Host: true}
		}
	}
	return ends
}

// endOf returns a pod as the end of a flow.
func endOf(a netip.Addr, pod *policy.Pod) flows.End {
	workload := connectivity.WorkloadOf(pod)
	return flows.End{Address: a, Namespace: pod.Namespace, Pod: pod.String(),
		Workload: workload.Kind + "/" + workload.Name, Labels: pod.Labels}
}

// Left notes that a pod has lost an address. Its last connections may not have been read yet.
func (l *Log) Left(a netip.Addr, pod policy.Pod) {
	end := endOf(a, &pod)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former[a] = former{end, time.Now()}
}

// nameless returns the addresses of young flows without a known owner.
func (l *Log) nameless() []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []netip.Addr
	l.history.young = slices.DeleteFunc(l.history.young, func(e *entry) bool { return time.Since(e.noticed) > young })
	for _, e := range l.history.young {
		for _, end := range []flows.End{e.flow.From, e.flow.To} {
			if unknown(end) {
				all = append(all, end.Address)
			}
		}
	}
	return all
}

// unknown says whether an end has no known owner.
func unknown(e flows.End) bool { return e.Pod == "" && !e.Host }
