// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/apiserver"
	"github.com/netpold/netpold/watch/events"
	"github.com/netpold/netpold/watch/folder"
	"github.com/netpold/netpold/watch/runtime"
)

// origin is where the objects come from.
type origin struct {
	source watch.Source
	events *events.Recorder  // writes Kubernetes Events; nil without an API server
	client *apiserver.Client // likewise
}

// origin returns where the objects come from, by the flags.
func (f runFlags) origin(log *slog.Logger) (origin, error) {
	if f.manifests != "" {
		return origin{source: &folder.Source{Dir: f.manifests, Log: log}}, nil
	}
	client, err := apiserver.NewClient(f.kubeconfig)
	if err != nil {
		return origin{}, err
	}
	recorder := events.New(events.Config{Writer: client.Events(), Node: f.node, Drops: f.dropEvents, Log: log})
	source := &apiserver.Source{Client: client, Node: f.node, Pods: recorder, Log: log}
	return origin{source: source, events: recorder, client: client}, nil
}

// untaint removes the node's taint once policies are in force, and keeps it off until ctx ends. It also waits for the
// runtime's first answer: pods that start between the first transaction and the gate would be unprotected.
func (d daemon) untaint(ctx context.Context, flags runFlags, loop *watch.Loop, gate *runtime.Plugin) {
	if flags.taint == "" {
		return
	}
	ready := func() bool {
		_, ready := loop.Ready()
		return ready && (gate == nil || gate.Tried())
	}
	(&apiserver.Taint{Client: d.client, Node: flags.node, Key: flags.taint, Ready: ready, Log: d.log}).Run(ctx)
}
