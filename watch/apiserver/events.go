// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// EventWriter writes events to an API server.
type EventWriter struct{ client rest.Interface }

// Events returns a writer of events to the API server.
func (c *Client) Events() EventWriter { return EventWriter{c.events} }

// Create creates an event.
func (w EventWriter) Create(ctx context.Context, e *corev1.Event) error {
	return w.client.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
}

// Patch changes an event.
func (w EventWriter) Patch(ctx context.Context, event types.NamespacedName, patch []byte) error {
	request := w.client.Patch(types.MergePatchType).Namespace(event.Namespace).Resource("events").Name(event.Name)
	return request.Body(patch).Do(ctx).Error()
}
