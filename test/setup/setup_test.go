// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakes are the programs of a fake machine: their output shows what the script did.
var fakes = map[string]string{
	"ip":      "echo ip utility, iproute2-6.1.0",
	"busybox": "echo BusyBox v1.36",
	"id":      "echo ${FAKE_UID}",
	"go":      "echo cc",
}

// TestSetup runs the script on machines that lack one thing or another.
func TestSetup(t *testing.T) {
	for name, tc := range map[string]struct {
		what     string
		has      []string // programs, those of fakes or empty ones
		uid      string
		fails    bool
		says     string
		installs string // what the package manager was called with
	}{
		"nothing is missing": {what: "demo", has: []string{"go", "ip"}, uid: "1000"},
		"no Go": {what: "demo", has: []string{"ip", "apt-get"}, uid: "0", fails: true,
			says: "install Go 1."},
		"the demo needs no nft": {what: "demo", has: []string{"go", "ip", "apt-get"}, uid: "0"},
		"tests need it": {what: "test", has: []string{"go", "ip", "promtool", "apt-get"}, uid: "0",
			installs: "install -y -qq --no-install-recommends nftables"},
		"busybox has an ip": {what: "demo", has: []string{"go", "busybox-ip", "apk"}, uid: "0",
			installs: "add --quiet iproute2"},
		"Fedora": {what: "test", has: []string{"go", "dnf"}, uid: "0",
			installs: "install -y -q iproute nftables golang-github-prometheus"},
		"openSUSE": {what: "test", has: []string{"go", "ip", "nft", "zypper"}, uid: "0",
			installs: "install golang-github-prometheus-prometheus"},
		"Arch": {what: "demo", has: []string{"go", "pacman"}, uid: "0",
			installs: "--needed iproute2"},
		"CI": {what: "ci", has: []string{"go", "ip", "nft", "promtool", "apt-get"}, uid: "0",
			installs: "make gcc libc6-dev chromium"},
		"CI has a browser": {what: "ci", uid: "0",
			has:      []string{"go", "ip", "nft", "promtool", "make", "google-chrome", "apt-get"},
			installs: "recommends gcc libc6-dev\n"},
		"an ordinary user": {what: "test", has: []string{"go", "ip", "promtool", "apt-get"}, uid: "1000",
			fails: true, says: "missing programs: nft. Install them, as root:\n\n    apt-get update"},
		"no package manager": {what: "demo", has: []string{"go"}, uid: "0", fails: true,
			says: "missing programs: ip"},
		"what is that": {what: "tests", has: []string{"go"}, uid: "0", fails: true, says: "usage: "},
		"installed and not there": {what: "demo", has: []string{"go", "apt-get"}, uid: "0", fails: true,
			says: "ip is still missing", installs: "iproute2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			// A package manager that works, unless the test is about one that does not.
			manager := `echo "$0 $*" >>` + log + "\nmkdir -p " + dir + "/later\ncp " + dir + "/spare/* " +
				dir + "/later\n"
			if strings.HasSuffix(tc.says, "still missing") {
				manager = `echo "$0 $*" >>` + log + "\n"
			}
			for _, program := range append(tc.has, "id") {
				switch text, fake := fakes[program]; {
				case program == "busybox-ip":
					write(t, dir, "bin/ip", fakes["busybox"])
				case fake:
					write(t, dir, "bin/"+program, text)
				case program == "apt-get" || program == "apk" || program == "dnf" || program == "zypper" ||
					program == "pacman":
					write(t, dir, "bin/"+program, manager)
				default:
					write(t, dir, "bin/"+program, "")
				}
			}
			for program, text := range map[string]string{"ip": fakes["ip"], "nft": "", "promtool": "",
				"cc": "", "make": "", "chromium": ""} {
				write(t, dir, "spare/"+program, text)
			}
			for _, program := range []string{"sh", "sed", "grep", "dirname", "mkdir", "cp"} {
				path, err := exec.LookPath(program)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(dir, "bin", program)); err != nil {
					t.Fatal(err)
				}
			}
			script, err := filepath.Abs("setup.sh")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", script, tc.what)
			cmd.Env = []string{"PATH=" + dir + "/later:" + dir + "/bin", "FAKE_UID=" + tc.uid}
			out, err := cmd.CombinedOutput()
			if (err != nil) != tc.fails || !strings.Contains(string(out), tc.says) {
				t.Errorf("%v, want failure: %t, and %q:\n%s", err, tc.fails, tc.says, out)
			}
			installed, _ := os.ReadFile(log)
			if !strings.Contains(string(installed), tc.installs) || tc.installs == "" && len(installed) > 0 {
				t.Errorf("the package manager was called with %q, want %q", installed, tc.installs)
			}
		})
	}
}

func write(t *testing.T, dir, name, script string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
