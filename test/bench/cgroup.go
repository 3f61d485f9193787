// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup is a memory cgroup of this process's own, of either version.
type cgroup struct {
	folder string
	field  string // of memory.stat, in version 2
}

// cgroupRoots are where the memory controllers usually are: of version 2, and of version 1.
func cgroupRoots() []string { return []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} }

// enterCgroup moves this process into a new memory cgroup.
func enterCgroup() (*cgroup, error) {
	var reason error
	for _, root := range cgroupRoots() {
		g := &cgroup{folder: filepath.Join(root, fmt.Sprintf("netpold-bench-%d", os.Getpid()))}
		if err := os.Mkdir(g.folder, 0o755); err != nil {
			reason = err
			continue
		}
		if err := g.enter(); err != nil {
			reason = err
			_ = os.Remove(g.folder)
			continue
		}
		return g, nil
	}
	return nil, fmt.Errorf("no memory cgroup can be made: %w", reason)
}

func (g *cgroup) enter() error {
	if _, err := os.Stat(filepath.Join(g.folder, "memory.kmem.usage_in_bytes")); err != nil {
		if text := field(filepath.Join(g.folder, "memory.stat"), "kernel"); text == "" {
			g.field = "kernel"
		}
		if _, err := g.kernel(); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(g.folder, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// kernel is the kernel memory that is charged to the cgroup, in bytes.
func (g *cgroup) kernel() (float64, error) {
	if g.field == "" {
		return strconv.ParseFloat(text(filepath.Join(g.folder, "memory.kmem.usage_in_bytes")), 64)
	}
	b, err := os.ReadFile(filepath.Join(g.folder, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == g.field {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no %q in memory.stat", g.field)
}
