// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	apiServerHost    = "127.0.0.1"
	apiServerPort    = "6443"
	apiServerAddress = apiServerHost + ":" + apiServerPort
)

// Files in the folder of a cluster.
const (
	caFile          = "ca.pem"
	serverFile      = "server.pem"
	serverKeyFile   = "server-key.pem"
	tokenKeyFile    = "token-key.pem" // signs and verifies the tokens of ServiceAccounts
	auditPolicyFile = "audit-policy.yaml"
	auditFile       = "audit.log"
)

// StartAPIServer starts the API server, again after StopAPIServer, with the same etcd, address, certificates and keys.
// It returns when the server is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if c.apiServer != nil {
		return errors.New("start kube-apiserver: already running")
	}
	p, err := c.thread.start(filepath.Join(c.bin, apiServerProgram), c.path("kube-apiserver.log"),
		c.apiServerFlags()...)
	if err != nil {
		return err
	}
	c.apiServer = p
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return fmt.Errorf("wait for kube-apiserver: %w", err)
	}
	return p.ready(ctx, func(ctx context.Context) error { return apiServerReady(ctx, client) })
}

// StopAPIServer kills the API server as a crash would. Its clients see their connections closed, then new ones refused.
func (c *Cluster) StopAPIServer() error {
	if c.apiServer == nil {
		return errors.New("stop kube-apiserver: not running")
	}
	p := c.apiServer
	c.apiServer = nil
	return p.kill()
}

// apiServerReady says whether the server is ready and has made its own namespaces, which readyz does not wait for.
func apiServerReady(ctx context.Context, client *kubernetes.Clientset) error {
	if err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// apiServerFlags returns the flags of kube-apiserver. They differ from a real cluster's because there is no
// kube-controller-manager, and only loopback.
func (c *Cluster) apiServerFlags() []string {
	return []string{
		"--etcd-servers=http://" + etcdAddress,
		"--bind-address=" + apiServerHost,
		"--advertise-address=" + apiServerHost,
		"--secure-port=" + apiServerPort,
		"--tls-cert-file=" + c.path(serverFile),
		"--tls-private-key-file=" + c.path(serverKeyFile),
		"--client-ca-file=" + c.path(caFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path(tokenKeyFile),
		"--service-account-signing-key-file=" + c.path(tokenKeyFile),
		"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
		"--audit-policy-file=" + c.path(auditPolicyFile),
		"--audit-log-path=" + c.path(auditFile),
		"--audit-log-mode=blocking", // so that an answer is logged before the client gets it
		"--audit-log-maxsize=10240", // MiB, enough for one file
		// Nothing creates the ServiceAccount "default", which admission would give to every pod.
		"--disable-admission-plugins=ServiceAccount",
		// The endpoints of Service default/kubernetes: a loopback address is not allowed there.
		"--endpoint-reconciler-type=none",
	}
}
