// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// specPatience is how long [Loop.Admit] waits for the API server's news of a pod that the runtime knows. It has nearly
// always arrived: the kubelet got the pod from there.
const specPatience = 250 * time.Millisecond

// admission is a sandbox that waits until the kernel has its rules.
type admission struct {
	id       string
	included bool // in the transaction in flight
	done     chan struct{}
}

// admissions are the waiting sandboxes. The loop's lock guards them.
type admissions map[*admission]struct{}

// include notes which sandboxes the next transaction covers.
func (all admissions) include(s *translate.State) {
	for a := range all {
		a.included = s.Settled(a.id)
	}
}

// release ends the wait of those that the kernel now has.
func (all admissions) release() {
	for a := range all {
		if a.included {
			close(a.done)
			delete(all, a)
		}
	}
}

// Admit takes a sandbox, and waits until the kernel has its rules, or ctx is done. Known says whether the API server
// has told us about the pod: if not, the runtime's word counts, which lacks the names of ports. Even after an error the
// loop keeps the sandbox, until [Loop.Release].
func (l *Loop) Admit(ctx context.Context, b policy.Sandbox) (known bool, err error) {
	known, _ = l.toldOf(b)
	if err := l.enforce(ctx, b); err != nil || known {
		return known, err
	}
	if !l.awaitSpec(ctx, b) {
		return false, nil
	}
	return true, l.enforce(ctx, b) // by what the API says, the pod may have another isolation
}

// enforce sets a sandbox, and waits until the kernel has its rules.
func (l *Loop) enforce(ctx context.Context, b policy.Sandbox) error {
	a := &admission{id: b.ID, done: make(chan struct{})}
	l.edit(func(s *translate.State) {
		s.SetSandbox(b)
		s.SetGateReached()
		l.admissions[a] = struct{}{}
	})
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	delete(l.admissions, a)
	l.mu.Unlock()
	text, ready := l.Ready()
	if ready {
		text = "the kernel is busy with other changes"
	}
	return fmt.Errorf("its policies are not in force yet: %s: %w", text, ctx.Err())
}

// awaitSpec waits a while for the API's news of a sandbox's pod, and says whether it came.
func (l *Loop) awaitSpec(ctx context.Context, b policy.Sandbox) bool {
	ctx, cancel := context.WithTimeout(ctx, specPatience)
	defer cancel()
	for {
		known, told := l.toldOf(b)
		if known {
			return true
		}
		select {
		case <-told:
		case <-ctx.Done():
			return false
		}
	}
}

// toldOf says whether the API has told us about a sandbox's pod; if not, told is closed at its next news of any pod.
func (l *Loop) toldOf(b policy.Sandbox) (known bool, told <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.KnowsPod(b.NamespacedName) {
		return true, nil
	}
	if l.told == nil {
		l.told = make(chan struct{})
	}
	return false, l.told
}

// Release forgets a sandbox: the API decides again who has its addresses.
func (l *Loop) Release(id string) {
	l.edit(func(s *translate.State) { s.DeleteSandbox(id) })
}

// Resync replaces all known sandboxes by the live ones. It returns how many of these have an address that was not known
// to be theirs: their containers may have run without their policies.
func (l *Loop) Resync(live []policy.Sandbox) (unprotected int) {
	l.edit(func(s *translate.State) {
		ids := make(map[string]bool)
		for _, b := range live {
			ids[b.ID] = true
			if l.status.Synced && !owns(s, b) { // before that, no pod is known
				unprotected++
			}
		}
		for _, b := range s.Sandboxes() {
			if !ids[b.ID] {
				s.DeleteSandbox(b.ID)
			}
		}
		for _, b := range live {
			s.SetSandbox(b)
			s.SetGateReached()
		}
	})
	return unprotected
}

// owns says whether a sandbox's addresses are known to belong to its pod.
func owns(s *translate.State, b policy.Sandbox) bool {
	for _, a := range b.IPs {
		if p, ok := s.PodAt(a); !ok || p.NamespacedName != b.NamespacedName {
			return false
		}
	}
	return true
}

// Doubt notes that the runtime is no longer heard: what it told us counts only as far as the API does not contradict
// it.
func (l *Loop) Doubt() {
	l.edit(func(s *translate.State) {
		for _, b := range s.Sandboxes() {
			b.Stale = true
			s.SetSandbox(b)
		}
	})
}

// edit is [Loop.Update] that wakes the loop even if nothing changed, for those who wait for it.
func (l *Loop) edit(change func(*translate.State)) {
	l.Update(func(Objects) { change(l.state) })
	l.poke()
}

// inherit makes the first transaction keep the guard of the previous netpold. Since the restart the runtime may not
// have reported a pod yet, and what was closed must not open until it does.
func (l *Loop) inherit(ctx context.Context) {
	counts := frame.UnknownSets()[0]
	for _, table := range []string{frame.TableName, frame.HandoverTable} {
		if _, err := l.config.Kernel.Elements(ctx, table, counts.Name, counts.Type); err == nil {
			l.mu.Lock()
			l.state.SetGateReached()
			l.mu.Unlock()
		}
	}
}

// tellGuard logs whether unknown pods are denied, when that changes.
func (l *Loop) tellGuard() {
	known := l.state.Guard()
	g := known.Wanted()
	switch {
	case g.Equal(l.guarded):
		return
	case g.On():
		l.config.Log.Info("unknown pods are now denied", "podAddresses", g.String())
	default:
		l.config.Log.Warn("unknown pods are now allowed: new pods are open until netpold knows them",
			"why", known.Off())
	}
	l.guarded = g
}
