// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/watch/drops"
	"github.com/netpold/netpold/watch/events"
)

// troubles are what was reported about policies that are not in force as written.
type troubles struct {
	version uint64 // of the state's troubles that were reported
	told    map[events.Trouble]string
}

func newTroubles() troubles { return troubles{told: make(map[events.Trouble]string)} }

// troubleLine is the message of the log about a kind of trouble.
func troubleLine(kind book.TroubleKind) string {
	return [...]string{
		book.Unaudited:   "policies are not audited; their rules were refused",
		book.Rejected:    "policy is in force without the parts that do not compile",
		book.OverLimit:   "policy is over a limit; the excess allows nothing",
		book.Quarantined: "policies quarantined; their pods are allowed nothing",
		book.Unenforced:  "policies are not enforced for a pod; the kernel refuses everything that would isolate it",
	}[kind]
}

// tellTroubles logs new troubles of the state, and writes Events about them. It costs nothing while they do not change.
func (l *Loop) tellTroubles() {
	version := l.state.TroubleVersion()
	if version == l.troubles.version {
		return
	}
	l.troubles.version = version
	now := make(map[events.Trouble]string)
	for t := range l.state.Troubles() {
		isNew := false
		for _, name := range t.Policies {
			id := events.Trouble{Policy: name, Kind: t.Kind}
			if text, twice := now[id]; twice { // both directions, or several isolations
				now[id] = text + "; " + t.Reason
			} else {
				now[id] = t.Reason
			}
			isNew = isNew || !strings.Contains(l.troubles.told[id], t.Reason)
		}
		if isNew {
			l.config.Log.Warn(troubleLine(t.Kind), "policies", policyList(t.Policies), "reason", t.Reason)
		}
	}
	for id, reason := range now {
		if l.troubles.told[id] != reason {
			l.config.Events.Trouble(id, reason)
		}
	}
	for id := range l.troubles.told {
		if _, still := now[id]; still {
			continue
		}
		l.config.Events.Over(id)
		_, worse := now[events.Trouble{Policy: id.Policy, Kind: book.Unenforced}]
		switch {
		case id.Kind == book.Quarantined && !worse:
			l.config.Log.Info("policy is out of quarantine", "policy", id.Policy)
		case id.Kind == book.Unenforced:
			l.config.Log.Info("policy is enforced for all its pods again", "policy", id.Policy)
		}
	}
	l.troubles.told = now
}

// policyList names the first few policies, for a log line.
func policyList(policies []types.NamespacedName) string {
	return strings.Join(drops.PolicyNames(frame.Isolation{Policies: policies}), ", ")
}
