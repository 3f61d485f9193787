// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"os"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/watch/folder"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// stateOf returns the node's state for the objects of manifests.
func stateOf(t *testing.T, options translate.Options, manifests string) *translate.State {
	t.Helper()
	s := translate.New(node, options)
	cluster, errs := folder.Read("cluster", strings.NewReader(manifests))
	for _, err := range append(errs, s.Add(cluster)...) {
		t.Fatal(err)
	}
	return s
}

// open returns a connection to the nf_tables of the test's network namespace.
func open(t *testing.T) *kernel.Conn {
	t.Helper()
	conn, err := kernel.Open(kernel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// apply commits the table.
func apply(t *testing.T, conn *kernel.Conn, s *translate.State) {
	t.Helper()
	if _, err := conn.Apply(t.Context(), s.Complete().Take()); err != nil {
		t.Fatal(err)
	}
}
