// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLife is how long the token of a ServiceAccount is valid: longer than any test.
const tokenLife = 12 * time.Hour

// admin returns the config for Admin.
func (c *Cluster) admin() (*rest.Config, error) {
	user, err := c.ca.client("admin", "system:masters")
	if err != nil {
		return nil, err
	}
	config := c.config()
	config.CertData, config.KeyData = user.cert, user.key
	config.QPS = -1
	return config, nil
}

// config returns a config that trusts the API server and has no user.
func (c *Cluster) config() *rest.Config {
	return &rest.Config{
		Host:            "https://" + apiServerAddress,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem},
		Dial:            c.thread.dial,
	}
}

// ServiceAccount returns a config with a fresh token of an existing ServiceAccount. It has the rights of the account's
// pods, and no more.
func (c *Cluster) ServiceAccount(ctx context.Context, namespace, name string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return nil, fmt.Errorf("request token of %s/%s: %w", namespace, name, err)
	}
	seconds := int64(tokenLife / time.Second)
	request, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request token of %s/%s: %w", namespace, name, err)
	}
	config := c.config()
	config.BearerToken = request.Status.Token
	return config, nil
}

// Kubeconfig writes one of this cluster's configs as a kubeconfig file and returns its path. The file does not name the
// network namespace: programs that use it must run there. Close removes it.
func (c *Cluster) Kubeconfig(config *rest.Config) (path string, err error) {
	f, err := os.CreateTemp(c.dir, "kubeconfig-")
	if err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	const name = "test"
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: config.Host, CertificateAuthorityData: config.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, f.Name())
	if err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return f.Name(), nil
}
