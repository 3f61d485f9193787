// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
)

// troubles are what was told of policies that are not in force as they are written.
type troubles struct {
	version uint64 // of the state's troubles that were told
	told    map[troubleID]string
}

// troubleID is one kind of trouble of a policy.
type troubleID struct {
	policy types.NamespacedName
	kind   translate.TroubleKind
}

func newTroubles() troubles { return troubles{told: make(map[troubleID]string)} }

// troubleText is how one kind of trouble is told.
type troubleText struct {
	log    string // the message
	reason string // of the event
	event  string // begins its message
}

func (id troubleID) text() troubleText {
	return map[translate.TroubleKind]troubleText{
		translate.Rejected: {
			"policy is in force without what does not compile", EventRejected, "in force without what does not compile: ",
		},
		translate.OverLimit: {
			"policy is over a limit, what is beyond it is not allowed", EventOverLimit, "over a limit, what is beyond it is not allowed: ",
		},
		translate.Quarantined: {
			"policies are quarantined, nothing is allowed to their pods", EventQuarantined, "quarantined, nothing is allowed to its pods: ",
		},
	}[id.kind]
}

// tellTroubles logs what is new among the state's troubles, and tells it the events. It costs nothing while they do not change.
func (l *Loop) tellTroubles() {
	version := l.State.TroubleVersion()
	if version == l.troubles.version {
		return
	}
	l.troubles.version = version
	now := make(map[troubleID]string)
	for t := range l.State.Troubles() {
		isNew := false
		for _, name := range t.Policies {
			id := troubleID{name, t.Kind}
			if text, twice := now[id]; twice { // in both directions, or in several isolations
				now[id] = text + "; " + t.Reason
			} else {
				now[id] = t.Reason
			}
			isNew = isNew || !strings.Contains(l.troubles.told[id], t.Reason)
		}
		if isNew {
			l.Log.Warn(troubleID{kind: t.Kind}.text().log, "policies", policyList(t.Policies), "reason", t.Reason)
		}
	}
	for id, reason := range now {
		if l.troubles.told[id] != reason {
			l.Events.trouble(id, reason)
		}
	}
	for id := range l.troubles.told {
		if _, still := now[id]; still {
			continue
		}
		l.Events.over(id)
		if id.kind == translate.Quarantined {
			l.Log.Info("policy is out of quarantine", "policy", id.policy)
		}
	}
	l.troubles.told = now
}

// policyList names policies in a line of the log, a few of them.
func policyList(policies []types.NamespacedName) string {
	return strings.Join(policyNames(translate.Isolation{Policies: policies}), ", ")
}
