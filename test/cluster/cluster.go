// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real API server for tests: kube-apiserver and etcd on loopback, in the network namespace of
// the test, with RBAC and an audit log. There are no nodes, kubelets or controllers, so a pod is what the test writes:
// its node, its addresses, its phase.
//
//	netns.Enter(t)
//	c := cluster.New(t)
//	err := c.Apply(ctx, "../../manifests")
//	config, err := c.ServiceAccount(ctx, "kube-system", "netpold")
//
// The first test that needs the programs builds them (see Build). The ports are always 6443, 2379 and 2380, so there
// can be one cluster per network namespace. (A port chosen by the kernel could be taken, while the API server is
// stopped, by the very client that tries to reach it.)
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// startTimeout is how long a server may take to become ready: 20 times what it takes on two cores.
const startTimeout = time.Minute

// Cluster is one API server with its etcd. Methods may be called from any goroutine and thread, in any namespace, and
// at the same time, except StartAPIServer, StopAPIServer and Close, which need the cluster for themselves.
type Cluster struct {
	// Admin reaches the API server with all rights, without a client-side rate limit. Like every config of a Cluster it
	// works from each thread of this process, whichever network namespace that is in. It must not be changed; use
	// rest.CopyConfig.
	Admin *rest.Config

	bin    string // folder of the programs
	dir    string // folder of all files; removed by Close
	thread *thread
	ca     *authority

	etcd      *process
	apiServer *process // nil while stopped
}

// New starts a cluster that ends with the test, in the network namespace of the calling thread. If the test fails, it
// logs the end of the API server's log.
func New(t testing.TB) *Cluster {
	t.Helper()
	c, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kube-apiserver printed\n%s", tail(c.path("kube-apiserver.log")))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Start builds the programs if necessary and starts a cluster in the network namespace of the calling thread, whose
// loopback must be up. It returns when the API server is ready. The caller must Close it; if this process dies first,
// the servers die, too. The context limits Start, not the cluster.
func Start(ctx context.Context) (*Cluster, error) {
	bin, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := &Cluster{bin: bin}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

// start does the work of Start. If it fails, Close undoes it.
func (c *Cluster) start(ctx context.Context) (err error) {
	if c.thread, err = newThread(); err != nil {
		return err
	}
	if err := c.thread.free(etcdAddress, etcdPeerAddress, apiServerAddress); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "netpold-cluster-"); err != nil {
		return err
	}
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	if c.Admin, err = c.admin(); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}

// writeFiles writes the files that kube-apiserver's flags name.
func (c *Cluster) writeFiles() error {
	server, err := c.ca.server()
	if err != nil {
		return err
	}
	_, tokenKey, err := newKey()
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		caFile:          c.ca.pem,
		serverFile:      server.cert,
		serverKeyFile:   server.key,
		tokenKeyFile:    tokenKey,
		auditPolicyFile: []byte(auditPolicy),
	} {
		if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Close kills the servers and removes the cluster's files. It returns when everything is gone. Later calls do nothing.
func (c *Cluster) Close() error {
	var errs []error
	for _, p := range []*process{c.apiServer, c.etcd} {
		if p != nil {
			errs = append(errs, p.kill())
		}
	}
	c.apiServer, c.etcd = nil, nil
	if c.thread != nil {
		c.thread.close()
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// path returns the path of a file of this cluster.
func (c *Cluster) path(name string) string {
	return filepath.Join(c.dir, name)
}
