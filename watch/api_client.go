// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// NewClient returns a client for the API server that kubeconfig names. If it is empty, $KUBECONFIG does, which may list several files,
// and without that, the service account of the pod that the process runs in. It does not ask the server for anything.
func NewClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.UserAgent = rest.DefaultKubernetesUserAgent()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	name := "kubeconfig " + kubeconfig
	if env := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); kubeconfig == "" && env != "" {
		rules.Precedence = filepath.SplitList(env)
		name = "kubeconfig " + env + " of $KUBECONFIG"
	} else if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("no API server: --kubeconfig is not given, $KUBECONFIG is not set, and this is no pod with a service account")
		}
		if err != nil {
			return nil, fmt.Errorf("the pod's service account (neither --kubeconfig nor $KUBECONFIG is given): %w", err)
		}
		return config, nil
	}
	file, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*file, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return config, nil
}
