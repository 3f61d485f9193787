// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Taint keeps pods off a new node until its policies are in force. Whoever registers the node sets it.
type Taint struct {
	Client *Client
	Node   string
	Key    string      // of the taint, whatever its value and effect
	Ready  func() bool // whether pods may come; polled until true
	Log    *slog.Logger
}

// How long a Taint waits.
const (
	taintPoll       = 100 * time.Millisecond
	maxTaintBackoff = 30 * time.Second
)

// Run removes the taint from the node once pods may come, and returns then or when ctx ends. It logs errors and tries
// again.
func (t *Taint) Run(ctx context.Context) {
	for !t.Ready() {
		if !pause(ctx, taintPoll) {
			return
		}
	}
	for backoff := time.Second; ; backoff = min(2*backoff, maxTaintBackoff) {
		removed, err := t.remove(ctx)
		switch {
		case err == nil && removed:
			t.Log.Info("policies are in force; removed the taint, so pods can be scheduled", "taint", t.Key,
				"node", t.Node)
			return
		case err == nil:
			t.Log.Info("the node has no such taint", "taint", t.Key, "node", t.Node)
			return
		case ctx.Err() == nil:
			t.Log.Warn("cannot remove the taint; pods that do not tolerate it are not scheduled",
				"taint", t.Key, "node", t.Node, "err", err)
		}
		if !pause(ctx, backoff) {
			return
		}
	}
}

// remove removes every taint with the key, and says whether there was one. It fails if others change the taints
// meanwhile.
func (t *Taint) remove(ctx context.Context) (bool, error) {
	var node corev1.Node
	if err := t.Client.core.Get().Resource("nodes").Name(t.Node).Do(ctx).Into(&node); err != nil {
		return false, fmt.Errorf("get node %s: %w", t.Node, err)
	}
	ours := func(taint corev1.Taint) bool { return taint.Key == t.Key }
	left := slices.DeleteFunc(slices.Clone(node.Spec.Taints), ours)
	if len(left) == len(node.Spec.Taints) {
		return false, nil
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	const path = "/spec/taints"
	patch, err := json.Marshal([]operation{{"test", path, node.Spec.Taints}, {"replace", path, left}})
	if err != nil {
		return false, err
	}
	request := t.Client.core.Patch(types.JSONPatchType).Resource("nodes").Name(t.Node).Body(patch)
	if err := request.Do(ctx).Error(); err != nil {
		return false, fmt.Errorf("patch node %s: %w", t.Node, err)
	}
	return true, nil
}
