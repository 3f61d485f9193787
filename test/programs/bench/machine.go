// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/figures"
)

// thisMachine describes the machine; what is unknown stays empty.
func thisMachine() figures.Machine {
	memory, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	load, _, _ := strings.Cut(text("/proc/loadavg"), " ")
	return figures.Machine{
		Date:        time.Now().UTC().Format(time.DateTime),
		Commit:      commit(),
		Kernel:      release() + " " + runtime.GOARCH,
		CPU:         field("/proc/cpuinfo", "model name"),
		Cores:       runtime.NumCPU(),
		MemoryMiB:   memory / 1024,
		Mitigations: text("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
		Load:        load,
		Go:          runtime.Version(),
	}
}

// text returns the first line of a file.
func text(name string) string {
	b, _ := os.ReadFile(name)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// field returns the value of the first line "name : value" of a file.
func field(file, name string) string {
	b, _ := os.ReadFile(file)
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// release is the kernel's version.
func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// commit is the measured commit.
func commit() string {
	git := func(args ...string) string {
		out, _ := exec.Command("git", args...).Output()
		return string(bytes.TrimSpace(out))
	}
	hash := git("rev-parse", "--short=12", "HEAD")
	// Files written by the run itself do not count as changes.
	if git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs") != "" {
		hash += "+"
	}
	return hash
}
