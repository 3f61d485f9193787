// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// apiEvents writes events to an API server.
type apiEvents struct{ client rest.Interface }

// Events returns a writer of events to the API server.
func (c *Client) Events() EventWriter { return apiEvents{c.events} }

// Create makes an event.
func (a apiEvents) Create(ctx context.Context, e *corev1.Event) error {
	return a.client.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
}

// Patch changes an event.
func (a apiEvents) Patch(ctx context.Context, event types.NamespacedName, patch []byte) error {
	return a.client.Patch(types.MergePatchType).Namespace(event.Namespace).Resource("events").Name(event.Name).Body(patch).Do(ctx).Error()
}
