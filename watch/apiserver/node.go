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

// How long to wait before getting the Node again: while it has no pod CIDRs or nobody answers, and once it has them,
// after which an API server does not let them change.
const (
	nodeSoon  = time.Second
	nodeLater = 10 * time.Minute
)

// followNode tells sink the node's pod CIDRs until ctx ends. It polls the one object, so that it needs no right but to
// get nodes. It calls answered after the server's first answer, even if that is a refusal.
func (s *Source) followNode(ctx context.Context, sink watch.Sink, answered func()) {
	told := "" // the last logged error
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
			s.Log.Warn("cannot read the node's podCIDRs; unknown pods are guarded without them", "node",
				s.Node, "err", err)
		}
		pause(ctx, wait)
	}
}
