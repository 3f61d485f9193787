// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestForeign builds the program for other processors, among them the big-endian s390x, and runs it with qemu-user, if
// that is installed: its output and exit status are the same.
func TestForeign(t *testing.T) {
	for arch, processor := range map[string]string{"arm64": "aarch64", "s390x": "s390x"} {
		t.Run(arch, func(t *testing.T) {
			qemu, err := exec.LookPath("qemu-" + processor)
			if err != nil {
				qemu, err = exec.LookPath("qemu-" + processor + "-static")
			}
			if err != nil || testing.Short() {
				t.Skipf("not in short mode, nor without qemu-user: %v", err)
			}
			program := filepath.Join(t.TempDir(), "netpold")
			flags := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", program, "."}
			build := exec.CommandContext(t.Context(), "go", flags...)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			const folder = "../../docs/example"
			for _, args := range [][]string{
				{"render", "-f", folder + "/sample.yaml", "--node", "worker-1"},
				{"explain", "-f", folder + "/cluster.yaml", "shop/web-1", "shop/db-0:5432/tcp"},
				{"explain", "-f", folder + "/cluster.yaml", "shop/web-1", "shop/db-0:6379/tcp"},
			} {
				want, _, exit := execute(t.Context(), "", args...)
				out, err := exec.CommandContext(t.Context(), qemu, append([]string{program}, args...)...).Output()
				var failed *exec.ExitError
				if err != nil && !errors.As(err, &failed) {
					t.Fatal(err)
				}
				got := 0
				if failed != nil {
					got = failed.ExitCode()
				}
				if string(out) != want || got != exit || want == "" {
					t.Errorf("%v: exit %d, want %d; it prints\n%s\nwant\n%s", args, got, exit, out, want)
				}
			}
		})
	}
}
