// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes memory cgroups, of version 1 or 2.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Group is a memory cgroup.
type Group struct {
	Folder  string
	version int
}

// roots are where the memory controllers usually are.
func roots() [2]string { return [2]string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} }

// New makes an empty memory cgroup. It needs root and a memory controller.
func New() (*Group, error) {
	var reasons error
	for _, root := range roots() {
		folder := filepath.Join(root, fmt.Sprintf("netpold-test-%d", os.Getpid()))
		err := os.Mkdir(folder, 0o755)
		if err == nil {
			var g *Group
			if g, err = Open(folder); err == nil {
				return g, nil
			}
			_ = os.Remove(folder)
		}
		reasons = errors.Join(reasons, err)
	}
	return nil, fmt.Errorf("no memory cgroup can be made: %w", reasons)
}

// Open returns the memory cgroup of a folder.
func Open(folder string) (*Group, error) {
	g := &Group{folder, 1}
	if _, err := os.Stat(filepath.Join(folder, "memory.kmem.usage_in_bytes")); err != nil {
		g.version = 2
	}
	_, err := g.Kernel()
	return g, err
}

// Remove removes the cgroup, which must have no processes left.
func (g *Group) Remove() error { return os.Remove(g.Folder) }

// Enter moves this process into the cgroup.
func (g *Group) Enter() error { return g.write("cgroup.procs", strconv.Itoa(os.Getpid())) }

// Launch makes a command that is not started yet start in the cgroup.
func (g *Group) Launch(cmd *exec.Cmd) error {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return err
	}
	const enter = `echo $$ >"$0" && exec "$@"`
	cmd.Args = append([]string{"sh", "-c", enter, filepath.Join(g.Folder, "cgroup.procs"), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = shell
	return nil
}

// Limit limits the memory of the cgroup to n bytes, without swap.
func (g *Group) Limit(bytes int64) error {
	limit := strconv.FormatInt(bytes, 10)
	if g.version == 2 {
		return errors.Join(g.write("memory.max", limit), g.unless("memory.swap.max", "0"))
	}
	return errors.Join(g.write("memory.limit_in_bytes", limit), g.unless("memory.memsw.limit_in_bytes", limit))
}

// unless writes a file, if it exists.
func (g *Group) unless(file, value string) error {
	if err := g.write(file, value); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

func (g *Group) write(file, value string) error {
	f, err := os.OpenFile(filepath.Join(g.Folder, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Kernel returns the bytes of kernel memory that are charged to the cgroup.
func (g *Group) Kernel() (int64, error) {
	if g.version == 2 {
		return g.field("memory.stat", "kernel")
	}
	return g.number("memory.kmem.usage_in_bytes")
}

// Used returns the bytes that are charged to the cgroup.
func (g *Group) Used() (int64, error) {
	return g.number([...]string{"memory.usage_in_bytes", "memory.current"}[g.version-1])
}

// Peak returns the most bytes that were charged to the cgroup at a time. Version 2 reports it since Linux 5.19.
func (g *Group) Peak() (int64, error) {
	return g.number([...]string{"memory.max_usage_in_bytes", "memory.peak"}[g.version-1])
}

// Kills returns how many processes of the cgroup the kernel killed because it was at the limit.
func (g *Group) Kills() (int64, error) {
	return g.field([...]string{"memory.oom_control", "memory.events"}[g.version-1], "oom_kill")
}

func (g *Group) number(file string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(g.Folder, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

func (g *Group) field(file, field string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(g.Folder, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == field {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("no %q in %s", field, file)
}
