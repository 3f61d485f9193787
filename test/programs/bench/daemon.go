// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a running netpold.
type daemon struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

// endpoints is the address of its endpoints.
const endpoints = "127.0.0.1:9911"

// startDaemon starts netpold and waits until it enforces the API server's policies.
func startDaemon(ctx context.Context, program, kubeconfig string) (*daemon, error) {
	d := &daemon{cmd: exec.CommandContext(ctx, program, "run", "--kubeconfig", kubeconfig, "--node", nodeName,
		"--listen", endpoints)}
	d.cmd.Stderr = &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start netpold: %w", err)
	}
	for begin := time.Now(); time.Since(begin) < 2*time.Minute && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get("http://" + endpoints + "/readyz")
		if err != nil {
			continue
		}
		closeQuietly(response.Body)
		if response.StatusCode == http.StatusOK {
			return d, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("netpold does not become ready: %s", &d.log), d.cmd.Process.Kill(), d.cmd.Wait())
}

// stop ends the daemon and removes its rules.
func (d *daemon) stop() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	if waited := d.cmd.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("netpold ended: %w: %s", waited, &d.log))
	}
	out, cleaned := exec.Command(d.cmd.Path, "cleanup").CombinedOutput()
	if cleaned != nil {
		cleaned = fmt.Errorf("netpold cleanup: %w: %s", cleaned, out)
	}
	return errors.Join(err, cleaned)
}

// memory returns a field of the process's status that is a size, such as VmRSS, in MiB.
func (d *daemon) memory(name string) (float64, error) {
	value := field(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid), name)
	kB, err := strconv.Atoi(strings.TrimSuffix(value, " kB"))
	if err != nil {
		return 0, fmt.Errorf("%s of netpold: %w", name, err)
	}
	return float64(kB) / 1024, nil
}

// programSize is the size of the program's file in MiB.
func programSize(program string) (float64, error) {
	info, err := os.Stat(program)
	if err != nil {
		return 0, fmt.Errorf("%w (make build)", err)
	}
	return float64(info.Size()) / (1 << 20), nil
}
