// SPDX-License-Identifier: Apache-2.0

// Package faults runs the netpold program on the real kernel and breaks things around it, while packets are sent.
package faults_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/netpold/netpold/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// TestFaults builds the program once for all.
func TestFaults(t *testing.T) {
	program := filepath.Join(t.TempDir(), "netpold")
	build := exec.Command("go", "build", "-o", program, "github.com/netpold/netpold/cmd/netpold")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T, string){
		"owned": testOwned, "shared": testShared, "keep": testKeep, "recheck": testRecheck, "text": testText,
	} {
		t.Run(name, func(t *testing.T) { test(t, program) })
	}
}
