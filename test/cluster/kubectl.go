// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Apply applies a folder with a kustomization.yaml as a user would: kubectl apply --server-side -k. Unknown fields are
// errors.
func (c *Cluster) Apply(ctx context.Context, dir string) error {
	_, err := c.Kubectl(ctx, "apply", "--server-side", "--kustomize="+dir)
	return err
}

// Validate is a dry run of Apply, with the API server's defaulting, validation and admission. Namespaces and
// definitions that the objects need must exist beforehand, even if the folder has them.
func (c *Cluster) Validate(ctx context.Context, dir string) error {
	_, err := c.Kubectl(ctx, "apply", "--server-side", "--dry-run=server", "--kustomize="+dir)
	return err
}

// Kubectl runs kubectl with all rights and returns what it prints. The error includes its errors and warnings.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	config, err := c.Kubeconfig(c.Admin)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, kubectlProgram), append(args, "--kubeconfig="+config)...)
	cmd.Env = []string{"HOME=" + c.dir}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := c.thread.do(cmd.Start); err != nil {
		return "", fmt.Errorf("start kubectl: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.String(), nil
}
