// SPDX-License-Identifier: Apache-2.0

package events

import (
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

// TestClusterPolicy: the event of a ClusterNetworkPolicy is in the namespace where those of the cluster are.
func TestClusterPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestRecorder(t, w)
		e.SetClusterPolicy(policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "guard", UID: "u1"},
		}})
		name := types.NamespacedName{Name: "guard"}
		for kind, want := range map[book.TroubleKind]string{
			book.Rejected:    "Rejected ×1: in force; the parts that do not compile fail closed: spec.tier",
			book.Quarantined: "Quarantined ×1: quarantined; its subjects are denied everything: spec.tier",
		} {
			e.Trouble(Trouble{name, kind}, "spec.tier")
			time.Sleep(troubleSpread)
			synctest.Wait()
			got := w.texts()["guard"]
			want = "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy /guard u1 NetworkPolicy" + want
			if len(got) == 0 || got[len(got)-1] != want {
				t.Errorf("events\n%s\nwant\n%s", got, want)
			}
			for _, event := range w.events {
				if event.Namespace != metav1.NamespaceDefault {
					t.Errorf("it is in namespace %q", event.Namespace)
				}
			}
			e.Over(Trouble{name, kind})
			clear(w.events)
		}
	})
}
