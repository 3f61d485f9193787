// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Names of the programs in the folder that Build returns.
const (
	apiServerProgram = "kube-apiserver"
	etcdProgram      = "etcd"
	kubectlProgram   = "kubectl"
)

// Build builds kube-apiserver, etcd and kubectl from the module test/apiserver into .cache/apiserver/bin at the top of
// the repository, and returns that folder. It does nothing if they were already built from the same go.mod, go.sum and
// Go version. The first build takes minutes. Concurrent test binaries wait for each other.
func Build(ctx context.Context) (dir string, err error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "test", "apiserver")
	dir = filepath.Join(root, ".cache", "apiserver", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder for the API server: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	want, err := stamp(module)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "stamp")
	if held, err := os.ReadFile(file); err == nil && string(held) == want {
		return dir, nil
	}
	if err := os.RemoveAll(file); err != nil {
		return "", fmt.Errorf("remove the stamp of the last build: %w", err)
	}
	if err := build(ctx, module, dir); err != nil {
		return "", err
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("write the stamp of the build: %w", err)
	}
	return dir, nil
}

// repository returns the top folder of this repository: the nearest one, from the working folder upwards, with our
// go.mod.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/netpold/netpold\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: its go.mod is not above %s", start)
		}
	}
}

// lock takes the file lock at path, waiting for whoever holds it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the build: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock the build: %w", err)
		}
	}
}

// stamp returns a line that differs whenever the builds may differ.
func stamp(module string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("read the module of the API server: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return fmt.Sprintf("%s %s %x\n", runtime.Version(), runtime.GOARCH, h.Sum(nil)), nil
}

// build builds all programs.
func build(ctx context.Context, module, dir string) error {
	version, err := goCommand(ctx, module, "list", "-mod=readonly", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	stamped := "-s -w" + versionFlags(version)
	for _, p := range []struct{ name, path, flags string }{
		{etcdProgram, "go.etcd.io/etcd/server/v3", "-s -w"},
		{apiServerProgram, "k8s.io/kubernetes/cmd/kube-apiserver", stamped},
		{kubectlProgram, "k8s.io/kubernetes/cmd/kubectl", stamped},
	} {
		out := filepath.Join(dir, p.name)
		if _, err := goCommand(ctx, module, "build", "-mod=readonly", "-trimpath", "-ldflags="+p.flags, "-o", out,
			p.path); err != nil {
			return err
		}
	}
	return nil
}

// versionFlags returns the flags for the linker that a release build uses to set the version, which clients ask for.
func versionFlags(version string) string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags strings.Builder
	for _, set := range []string{"gitVersion=" + version, "gitMajor=" + major, "gitMinor=" + minor, "gitCommit=",
		"gitTreeState=clean"} {
		flags.WriteString(" -X k8s.io/component-base/version." + set)
	}
	return flags.String()
}

// goCommand runs the go command in the module and returns what it prints.
func goCommand(ctx context.Context, module string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], module, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
