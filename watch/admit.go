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

// specPatience is how long [Loop.Admit] waits for the API to tell of a pod that the runtime knows. It nearly always
// has: the kubelet got the pod from there.
const specPatience = 250 * time.Millisecond

// admission is a sandbox that waits until the kernel holds what follows from it.
type admission struct {
	id       string
	included bool // in the transaction that is in flight
	done     chan struct{}
}

// admissions are those that wait. The loop's lock guards them.
type admissions map[*admission]struct{}

// include notes which of them the table has that is now brought to the kernel.
func (all admissions) include(s *translate.State) {
	for a := range all {
		a.included = s.Settled(a.id)
	}
}

// release ends the waiting of those that the kernel has.
func (all admissions) release() {
	for a := range all {
		if a.included {
			close(a.done)
			delete(all, a)
		}
	}
}

// Admit takes a sandbox, and waits until the kernel holds what follows from it, or until ctx is done. Known says
// whether the API has told of the pod: if not, what the runtime says of it counts, and the names of its ports are
// missing. After an error the sandbox still is the loop's, until [Loop.Release].
func (l *Loop) Admit(ctx context.Context, b policy.Sandbox) (known bool, err error) {
	known, _ = l.toldOf(b)
	if err := l.enforce(ctx, b); err != nil || known {
		return known, err
	}
	if !l.awaitSpec(ctx, b) {
		return false, nil
	}
	return true, l.enforce(ctx, b) // what the API tells of the pod may be another isolation
}

// enforce sets a sandbox, and waits until the kernel holds what follows from it.
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

// awaitSpec waits until the API has told of the pod of a sandbox, and says whether it has.
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

// toldOf says whether the API has told of the pod of a sandbox; if not, told is closed when it has told of anything.
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

// Release forgets a sandbox: what the API tells of its addresses holds again.
func (l *Loop) Release(id string) {
	l.edit(func(s *translate.State) { s.DeleteSandbox(id) })
}

// Resync takes all live sandboxes, in place of those that were known. It returns how many of them have an address that
// was not known to be theirs: their containers may have run without their policies.
func (l *Loop) Resync(live []policy.Sandbox) (unprotected int) {
	l.edit(func(s *translate.State) {
		ids := make(map[string]bool)
		for _, b := range live {
			ids[b.ID] = true
			if l.status.Synced && !owns(s, b) { // before, nothing is known of any pod
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

// owns says whether the addresses of a sandbox are known to be its pod's.
func owns(s *translate.State, b policy.Sandbox) bool {
	for _, a := range b.IPs {
		if p, ok := s.PodAt(a); !ok || p.NamespacedName != b.NamespacedName {
			return false
		}
	}
	return true
}

// Doubt notes that the runtime is not heard of any more: of what it told, that counts which the API does not
// contradict.
func (l *Loop) Doubt() {
	l.edit(func(s *translate.State) {
		for _, b := range s.Sandboxes() {
			b.Stale = true
			s.SetSandbox(b)
		}
	})
}

// edit changes the state as [Loop.Update] does, and wakes the loop also when that changed nothing, for those who wait
// for it.
func (l *Loop) edit(change func(*translate.State)) {
	l.Update(func(Objects) { change(l.state) })
	l.poke()
}

// inherit has the first transaction keep the guard of a previous netpold, before which the runtime told of new pods. It
// may not have told of one yet since the restart, and what was closed is not to be open for that long.
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
