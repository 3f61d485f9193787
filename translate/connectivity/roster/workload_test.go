// SPDX-License-Identifier: Apache-2.0

package roster_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/policy"
)

// TestWorkloadOf: the controllers between a pod and what an operator deploys are skipped.
func TestWorkloadOf(t *testing.T) {
	for _, row := range []struct{ owner, hash, want string }{
		{"ReplicaSet/web-5d9f", "5d9f", "Deployment/web"},
		{"ReplicaSet/web-5d9f", "", "ReplicaSet/web-5d9f"},
		{"ReplicaSet/web", "5d9f", "ReplicaSet/web"},
		{"StatefulSet/db", "", "StatefulSet/db"},
		{"DaemonSet/agent-1234", "1234", "DaemonSet/agent-1234"},
		{"Job/backup-29074500", "", "CronJob/backup"},
		{"Job/backup-1744470000", "", "CronJob/backup"},
		{"Job/import-2024", "", "Job/import-2024"},
		{"Job/29074500", "", "Job/29074500"},
		{"Node/worker-1", "", "Pod/pod"}, // pod-worker-1
		{"Rollout/web", "", "Rollout/web"},
		{"", "", "Pod/pod-worker-1"},
	} {
		p := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "n", Name: "pod-worker-1"}, Owner: row.owner}
		if row.hash != "" {
			p.Labels = map[string]string{"pod-template-hash": row.hash}
		}
		if w := roster.WorkloadOf(&p); w.Namespace != "n" || w.Kind+"/"+w.Name != row.want {
			t.Errorf("%s, hash %q: %v, want %s", row.owner, row.hash, w, row.want)
		}
	}
}
