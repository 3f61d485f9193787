// SPDX-License-Identifier: Apache-2.0

package main

import (
	"iter"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/netpold/netpold/test/harness/apiserver"
)

// serve starts a stand-in for the API server of a cluster of that size.
func (z size) serve() *apiserver.Server {
	return apiserver.New(apiserver.Objects{
		Pods:       all(z.pods, func(i int) runtime.Object { return z.pod(i) }),
		Namespaces: all(z.namespaces(), func(i int) runtime.Object { return z.namespace(i) }),
		Policies:   all(z.policies, func(i int) runtime.Object { return z.policy(i) }),
	})
}

func all(n int, object func(i int) runtime.Object) iter.Seq[runtime.Object] {
	return func(yield func(runtime.Object) bool) {
		for i := range n {
			if !yield(object(i)) {
				return
			}
		}
	}
}
