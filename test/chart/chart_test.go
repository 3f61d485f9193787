// SPDX-License-Identifier: Apache-2.0

// Package chart compares what the Helm chart installs with what `kubectl apply -k` applies, and checks what its values
// change.
package chart

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "../../manifests"
	dir       = manifests + "/chart"
)

// objects are the applied objects, by kind and name.
type objects map[string]*unstructured.Unstructured

// render returns what helm install would apply, and the notes that it would print.
func render(t *testing.T, namespace, values string) (objects, string, error) {
	t.Helper()
	chart, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	given := make(map[string]any)
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	release := common.ReleaseOptions{Name: "netpold", Namespace: namespace, IsInstall: true}
	all, err := util.ToRenderValues(chart, given, release, nil)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, "", err
	}
	got, notes := make(objects), ""
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = text
			continue
		}
		got.add(t, text)
	}
	return got, notes, nil
}

// kustomized returns what kubectl apply -k would apply.
func kustomized(t *testing.T, folders ...string) objects {
	t.Helper()
	got := make(objects)
	for _, folder := range folders {
		resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
		if err != nil {
			t.Fatal(err)
		}
		text, err := resources.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		got.add(t, string(text))
	}
	return got
}

// add adds the objects of a YAML text.
func (o objects) add(t *testing.T, text string) {
	t.Helper()
	for d := yamlutil.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		u := new(unstructured.Unstructured)
		if err := d.Decode(&u.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if len(u.Object) == 0 {
			continue
		}
		key := u.GetKind() + " " + u.GetName()
		if o[key] != nil {
			t.Errorf("%s appears twice", key)
		}
		o[key] = u
	}
}

// daemonSet returns the DaemonSet; a field that it does not have is an error.
func (o objects) daemonSet(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	ds := new(appsv1.DaemonSet)
	o.decode(t, "DaemonSet netpold", ds)
	return ds
}

// decode decodes an object strictly.
func (o objects) decode(t *testing.T, key string, into any) {
	t.Helper()
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o[key].Object, into, true)
	if err != nil {
		t.Fatal(err)
	}
}

// TestLint is `helm lint`, with warnings as errors.
func TestLint(t *testing.T) {
	linted := lint.RunAll(dir, nil, "kube-system")
	for _, m := range linted.Messages {
		if m.Severity > 1 { // an icon is optional
			t.Error(m)
		}
	}
	if linted.HighestSeverity == 0 {
		t.Error("nothing was linted")
	}
}

// TestSame compares what Helm installs with what kustomize applies, object by object.
func TestSame(t *testing.T) {
	for name, tc := range map[string]struct {
		values string
		apply  []string
	}{
		"default":    {"", []string{manifests}},
		"minimal":    {"gate: {enabled: false}", []string{manifests + "/minimal"}},
		"no tiers":   {"clusterNetworkPolicies: {enabled: false}", []string{"testdata/notiers"}},
		"taint":      {"taint: {enabled: true}", []string{"testdata/taint"}},
		"monitoring": {monitoring, []string{manifests, manifests + "/monitoring"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := render(t, "kube-system", tc.values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(kustomized(t, tc.apply...), got); diff != "" {
				t.Errorf("-kustomize +helm:\n%s", diff)
			}
		})
	}
}

const monitoring = "monitoring: " +
	"{podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}"

// TestValues sets one value at a time and checks what it changes.
func TestValues(t *testing.T) {
	type (
		pod       = *corev1.PodTemplateSpec
		container = *corev1.Container
	)
	for values, check := range map[string]func(pod, container) (got, want any){
		"image: {repository: registry.example/netpold, tag: v1}": func(_ pod, c container) (any, any) {
			return c.Image, "registry.example/netpold:v1"
		},
		"image: {digest: '" + digest + "'}": func(_ pod, c container) (any, any) {
			return c.Image, "netpold@" + digest
		},
		"image: {tag: 20261122}": func(_ pod, c container) (any, any) {
			return c.Image, "netpold:20261122"
		},
		"image: {tag: null}": func(_ pod, c container) (any, any) { return c.Image, "netpold" },
		"imagePullSecrets: [{name: a}]": func(p pod, _ container) (any, any) {
			return p.Spec.ImagePullSecrets, []corev1.LocalObjectReference{{Name: "a"}}
		},
		"args: [--deny=reject, --drop-events]": func(_ pod, c container) (any, any) {
			return c.Args[len(c.Args)-2:], []string{"--deny=reject", "--drop-events"}
		},
		"observe: {enabled: true, max: 1000000}": func(_ pod, c container) (any, any) {
			return c.Args[len(c.Args)-2:], []string{"--observe", "--observe-max=1000000"}
		},
		"manageBrNetfilter: true": func(_ pod, c container) (any, any) {
			return []any{slices.Contains(c.Args, "--manage-br-netfilter"), c.SecurityContext},
				[]any{true, &corev1.SecurityContext{Privileged: new(true), ReadOnlyRootFilesystem: new(true)}}
		},
		"port: 9999": func(_ pod, c container) (any, any) {
			return []any{c.Ports[0].ContainerPort, environment(c, "NETPOLD_LISTEN")},
				[]any{int32(9999), "$(HOST_IP):9999"}
		},
		"{resources: {limits: {memory: 1Gi}}, goMemoryLimit: 800MiB}": func(_ pod, c container) (any, any) {
			r := c.Resources
			return []any{r.Limits.Memory().String(), r.Requests.Cpu().IsZero(), environment(c, "GOMEMLIMIT")},
				[]any{"1Gi", false, "800MiB"}
		},
		"priorityClassName: mine": func(p pod, _ container) (any, any) {
			return p.Spec.PriorityClassName, "mine"
		},
		"nodeSelector: {pool: a}": func(p pod, _ container) (any, any) {
			return p.Spec.NodeSelector, map[string]string{"pool": "a", "kubernetes.io/os": "linux"}
		},
		"tolerations: []":        func(p pod, _ container) (any, any) { return len(p.Spec.Tolerations), 0 },
		"podAnnotations: {a: b}": func(p pod, _ container) (any, any) { return p.Annotations["a"], "b" },
		"podLabels: {a: b}":      func(p pod, _ container) (any, any) { return p.Labels["a"], "b" },
		"image: {pullPolicy: Always}": func(_ pod, c container) (any, any) {
			return c.ImagePullPolicy, corev1.PullAlways
		},
	} {
		t.Run(values, func(t *testing.T) {
			got, _, err := render(t, "kube-system", values)
			if err != nil {
				t.Fatal(err)
			}
			template := got.daemonSet(t).Spec.Template
			if g, w := check(&template, &template.Spec.Containers[0]); !cmp.Equal(g, w) {
				t.Errorf("got %+v, want %+v", g, w)
			}
		})
	}
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func environment(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// TestUpdate sets how many nodes are updated at a time, as number and percentage.
func TestUpdate(t *testing.T) {
	for _, value := range []string{"3", "10%"} {
		got, _, err := render(t, "kube-system", fmt.Sprintf("maxUnavailable: %s", value))
		if err != nil {
			t.Fatal(err)
		}
		update := got.daemonSet(t).Spec.UpdateStrategy.RollingUpdate
		if update.MaxUnavailable.String() != value || update.MaxSurge.String() != "0" {
			t.Errorf("maxUnavailable %s, maxSurge %s", update.MaxUnavailable, update.MaxSurge)
		}
	}
}

// TestNamespace: outside kube-system, everything is in the release's namespace, and the priority class has a quota.
func TestNamespace(t *testing.T) {
	got, notes, err := render(t, "policies", monitoring)
	if err != nil {
		t.Fatal(err)
	}
	for key, o := range got {
		want := "policies"
		if strings.HasPrefix(key, "Cluster") {
			want = ""
		}
		if o.GetNamespace() != want {
			t.Errorf("%s is in namespace %q, want %q", key, o.GetNamespace(), want)
		}
	}
	subjects, _, _ := unstructured.NestedSlice(got["ClusterRoleBinding netpold"].Object, "subjects")
	account := []any{map[string]any{"kind": "ServiceAccount", "name": "netpold", "namespace": "policies"}}
	if !cmp.Equal(subjects, account) {
		t.Errorf("the role is bound to %v", subjects)
	}
	quota := new(corev1.ResourceQuota)
	got.decode(t, "ResourceQuota netpold", quota)
	want := []corev1.ScopedResourceSelectorRequirement{{
		ScopeName: corev1.ResourceQuotaScopePriorityClass,
		Operator:  corev1.ScopeSelectorOpIn, Values: []string{"system-node-critical"},
	}}
	if !cmp.Equal(quota.Spec.ScopeSelector.MatchExpressions, want) || quota.Spec.Hard.Pods().IsZero() {
		t.Errorf("quota: %+v", quota.Spec)
	}
	for _, text := range []string{"-n policies rollout status ds/netpold",
		"pod-security.kubernetes.io/enforce=privileged"} {
		if !strings.Contains(notes, text) {
			t.Errorf("the notes lack %q:\n%s", text, notes)
		}
	}
	without, _, err := render(t, "policies", "resourceQuota: {enabled: false}")
	if err != nil || without["ResourceQuota netpold"] != nil {
		t.Errorf("the quota exists all the same, or %v", err)
	}
}

// TestWrong: mistakes in values are refused.
func TestWrong(t *testing.T) {
	for _, values := range []string{
		"imgae: {tag: v1}", "image: {tag: 1.1}", "image: {tag: 0}",
		"image: {repository: ''}", "image: {digest: 'sha256:12'}", "args: --deny=reject",
		"args: [deny]", "port: 0", "port: '9911'", "gate: true", "gate: {enable: false}", "maxUnavailable: 0",
		"goMemoryLimit: 400Mi", "resources: {limits: {memory: 1Gi}}", "monitoring: {alerts: true}", "podLabels: {a: 1}",
	} {
		if _, _, err := render(t, "kube-system", values); err == nil {
			t.Errorf("%s: not refused", values)
		}
	}
}

// TestLabels: a label for prometheus-operator's selectors reaches the objects that they select.
func TestLabels(t *testing.T) {
	got, _, err := render(t, "kube-system", strings.TrimSuffix(monitoring, "}")+", labels: {release: stack}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"PodMonitor netpold", "PrometheusRule netpold", "ConfigMap netpold-dashboard"} {
		labels := got[key].GetLabels()
		if labels["release"] != "stack" || labels["app.kubernetes.io/name"] != "netpold" {
			t.Errorf("%s has labels %v", key, labels)
		}
	}
	if got["ConfigMap netpold-dashboard"].GetLabels()["grafana_dashboard"] != "1" {
		t.Error("the dashboard lacks the label that the sidecar looks for")
	}
}
