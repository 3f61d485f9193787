// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
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

// newCgroup makes a memory cgroup, without processes.
func newCgroup() (*cgroup, error) {
	var reasons error
	for _, root := range cgroupRoots() {
		g := &cgroup{folder: filepath.Join(root, fmt.Sprintf("netpold-bench-%d", os.Getpid()))}
		err := os.Mkdir(g.folder, 0o755)
		if err == nil {
			if err = g.find(); err == nil {
				return g, nil
			}
			_ = g.remove()
		}
		reasons = errors.Join(reasons, err)
	}
	return nil, fmt.Errorf("no memory cgroup can be made: %w", reasons)
}

// find finds out where the kernel memory is said.
func (g *cgroup) find() error {
	if _, err := os.Stat(filepath.Join(g.folder, "memory.kmem.usage_in_bytes")); err != nil {
		g.field = "kernel"
	}
	_, err := g.kernel()
	return err
}

// enter moves this process into the cgroup.
func (g *cgroup) enter() error {
	return os.WriteFile(filepath.Join(g.folder, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// remove removes the cgroup, in which no process is any more.
func (g *cgroup) remove() error { return os.Remove(g.folder) }

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
