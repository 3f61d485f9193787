// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// How long to wait before the Node is asked for again: while it has no pod CIDRs, or nobody answers, and once it has
// some, which an API server then does not let change.
const (
	nodeSoon  = time.Second
	nodeLater = 10 * time.Minute
)

// followNode tells sink the pod CIDRs of the node until ctx ends. It gets the one object and watches nothing, so that
// to get nodes is all it may need to do. It calls answered when the server has answered once, be it that it may not.
func (s *Source) followNode(ctx context.Context, sink watch.Sink, answered func()) {
	told := "" // of what is wrong
	for wait := nodeSoon; ctx.Err() == nil; {
		var node corev1.Node
		err := s.Client.core.Get().Resource("nodes").Name(s.Node).Do(ctx).Into(&node)
		status := apierrors.APIStatus(nil)
		if err == nil || errors.As(err, &status) {
			cidrs, wrong := policy.PodCIDRs(node.Spec)
			if err == nil {
				sink.Update(func(o watch.Objects) { o.SetNode(s.Node, cidrs) })
				err = wrong
			}
			answered()
			wait = min(2*wait, time.Minute)
			if len(cidrs) > 0 {
				wait = nodeLater
			}
		}
		if err != nil && err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			s.Log.Warn("cannot read the node's podCIDRs; the guard against unknown pods does without them", "node",
				s.Node, "err", err)
		}
		pause(ctx, wait)
	}
}
