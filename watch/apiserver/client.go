// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// Client reads pods, namespaces and policies from an API server, writes Events and removes a taint. A clientset for the
// whole API would be a third of the program.
type Client struct {
	core, networking rest.Interface
	tiers            rest.Interface // in JSON, the only form the server has
	events           rest.Interface // with its own rate limit, so that Events do not hold up watches
	codecs           serializer.CodecFactory
}

// NewClient returns a client for the API server in kubeconfig. If that is empty, $KUBECONFIG counts, which may list
// several files, and then the service account of the process's pod. It sends no request.
func NewClient(kubeconfig string) (*Client, error) {
	config, err := clientConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return NewClientFor(config)
}

// NewClientFor returns a client for the API server of config.
func NewClientFor(config *rest.Config) (*Client, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.UserAgent = rest.DefaultKubernetesUserAgent()
	c := &Client{codecs: newCodecs()}
	config.NegotiatedSerializer = c.codecs.WithoutConversion()
	connections, err := rest.HTTPClientFor(config)
	if err == nil {
		c.core, err = groupClient(config, connections, corev1.SchemeGroupVersion)
	}
	if err == nil {
		c.events, err = groupClient(config, connections, corev1.SchemeGroupVersion)
	}
	if err == nil {
		c.networking, err = groupClient(config, connections, networkingv1.SchemeGroupVersion)
	}
	if err == nil {
		config.AcceptContentTypes = runtime.ContentTypeJSON
		c.tiers, err = groupClient(config, connections, schema.GroupVersion(v1alpha2.GroupVersion))
	}
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return c, nil
}

// groupClient returns a client for the resources of one API group.
func groupClient(config *rest.Config, connections *http.Client, group schema.GroupVersion) (*rest.RESTClient, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion, config.APIPath = &group, "/apis"
	if group.Group == "" {
		config.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(config, connections)
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
			return nil, errors.New("no API server: neither --kubeconfig nor $KUBECONFIG is set, and this is not a " +
				"pod with a service account")
		}
		if err != nil {
			return nil, fmt.Errorf("the pod's service account (neither --kubeconfig nor $KUBECONFIG is set): %w", err)
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

// newCodecs returns the codecs for the client's objects.
func newCodecs() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodList{}, &corev1.Namespace{},
		&corev1.NamespaceList{},
		&corev1.Event{}, &corev1.Node{}, &corev1.NodeList{})
	scheme.AddKnownTypes(networkingv1.SchemeGroupVersion, &networkingv1.NetworkPolicy{},
		&networkingv1.NetworkPolicyList{})
	for _, group := range []schema.GroupVersion{corev1.SchemeGroupVersion, networkingv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(scheme, group)
	}
	return serializer.NewCodecFactory(scheme)
}

// endpoint is where the API server serves the objects of one kind.
type endpoint struct {
	client   rest.Interface
	codecs   serializer.CodecFactory
	resource string          // as in the path
	kind     string          // of an object
	selector string          // of fields
	empty    func() message  // a new object
	others   runtime.Decoder // for what is not protobuf; nil uses codecs
}

func (e endpoint) get(o metav1.ListOptions) *rest.Request {
	o.FieldSelector = e.selector
	return e.client.Get().Resource(e.resource).VersionedParams(&o, metav1.ParameterCodec)
}

func (e endpoint) decoder() wireDecoder {
	d := wireDecoder{kind: e.kind, empty: e.empty, keep: keptFields(e.kind), others: e.others}
	if d.others == nil {
		d.others = e.codecs.UniversalDeserializer()
	}
	return d
}

// list lists the objects of all namespaces, or a page of them, and returns the metadata at the end of the list.
func (e endpoint) list(ctx context.Context, o metav1.ListOptions,
	each func(runtime.Object) error) (metav1.ListMeta, error) {
	body, err := e.get(o).Stream(ctx)
	if err != nil {
		return metav1.ListMeta{}, err
	}
	defer body.Close() //nolint:errcheck // it is read only
	l := listReader{items: e.decoder(), each: each}
	err = l.read(body)
	return l.end, err
}

// watch watches the objects of all namespaces.
func (e endpoint) watch(ctx context.Context, o metav1.ListOptions) (apiwatch.Decoder, error) {
	o.Watch = true
	body, err := e.get(o).Stream(ctx)
	if err != nil {
		return nil, err
	}
	json, _ := runtime.SerializerInfoForMediaType(e.codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	r := bufio.NewReaderSize(body, 16<<10) // a pod's event at once: HTTP/2 answers each 4 kB that is read with a write
	return &eventReader{items: e.decoder(), json: json.StreamSerializer, body: body, r: r}, nil
}

// pause waits, and says whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
