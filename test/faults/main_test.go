// SPDX-License-Identifier: Apache-2.0

// Package faults runs the netpold program on the real kernel and breaks things around it, while packets are sent.
package faults_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
)

func TestMain(m *testing.M) {
	if program := os.Getenv(launched); program != "" {
		becomeLaunched(program)
	}
	os.Exit(netns.Run(m))
}

// TestFaults builds the program once for all.
func TestFaults(t *testing.T) {
	program := filepath.Join(t.TempDir(), "netpold")
	build(t, program)
	for name, test := range map[string]func(*testing.T, string){
		"owned": testOwned, "shared": testShared, "keep": testKeep, "recheck": testRecheck, "text": testText,
		"takeover": testTakeover, "upgrade": testUpgrade, "netlink": testNetlink, "quarantine": testQuarantine,
		"told":  testTold,
		"first": testFirst, "lost": testLost, "cleanup": testCleanup, "limits": testLimits,
		"guard": testGuard, "port": testPort,
	} {
		t.Run(name, func(t *testing.T) { test(t, program) })
	}
}

// build builds the program.
func build(t *testing.T, program string, flags ...string) {
	t.Helper()
	args := append([]string{"build", "-o", program}, flags...)
	if out, err := exec.Command("go",
		append(args, "github.com/netpold/netpold/cmd/netpold")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}
