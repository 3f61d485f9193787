// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPicture parses the pictures: XML, and a page that loads nothing from elsewhere.
func TestPicture(t *testing.T) {
	svg, _, _ := execute(t.Context(), "", "connectivity", "-f", shop, "-o", "svg")
	cards := 0
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && len(e.Attr) > 0 && e.Attr[0].Value == "workload" {
			cards++
		}
	}
	if cards != 7 {
		t.Errorf("%d cards, want 7", cards)
	}
	if strings.Contains(svg, "tiered\"") || strings.Contains(svg, "ClusterNetworkPolicies") {
		t.Error("the picture tells of ClusterNetworkPolicies, of which there are none")
	}
	both := filepath.Join(t.TempDir(), "both.yaml")
	if err := os.WriteFile(both, []byte(shopWith(t, shopGuard)), 0o600); err != nil {
		t.Fatal(err)
	}
	svg, _, _ = execute(t.Context(), "", "connectivity", "-f", both, "-o", "svg")
	for gate, want := range map[string]int{"isolated": 8, "tiered": 2, "open": 2, "host": 2} {
		if got := strings.Count(svg, `<rect class="gate `+gate+`" x`) - 1; got != want { // one in the legend
			t.Errorf("%d sides of workloads are %s, want %d", got, gate, want)
		}
	}
	page, _, _ := execute(t.Context(), "", "connectivity", "-f", shop, "-o", "html")
	if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"`) {
		t.Error("the page does not forbid itself to ask")
	}
	if asks := regexp.MustCompile(`<[^>]*(src|href)=|@import|url\(['"]?http`).FindString(page); asks != "" {
		t.Errorf("the page asks for something: %s", asks)
	}
	for _, want := range []string{"Redistribution and use in source and binary forms", "Mike Bostock"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
}

// shopGuard is ClusterNetworkPolicies for the shop.
const shopGuard = `
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: shop-guard}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  ingress:
  - name: monitoring
    action: Accept
    from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
    protocols: [{tcp: {destinationPort: {number: 9090}}}]
  - name: no-ssh
    action: Deny
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {number: 22}}}]
  egress:
  - name: no-metadata
    action: Deny
    to: [{networks: [169.254.169.254/32]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - name: not-from-web
    action: Deny
    from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]
`

// shopWith returns the manifests of the shop with others.
func shopWith(t *testing.T, others string) string {
	t.Helper()
	text, err := os.ReadFile(shop)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + others
}

// act is what a person does to a page, in the terms of person.js, and what the page then shows, or does not.
type act struct {
	do        string
	want, not []string
}

// TestPage opens the page in a browser and clicks, types and chooses as a person would.
func TestPage(t *testing.T) {
	both := shopWith(t, shopGuard)
	var onlyTiers, none []string
	for document := range strings.SplitSeq(both, "\n---\n") {
		switch {
		case strings.Contains(document, "kind: NetworkPolicy"):
			continue
		case !strings.Contains(document, "kind: ClusterNetworkPolicy"):
			none = append(none, document)
		}
		onlyTiers = append(onlyTiers, document)
	}
	for name, tc := range map[string]struct {
		manifests string
		acts      []act
	}{
		"NetworkPolicies": {shopWith(t, ""), plainActs()},
		"both kinds":      {both, bothActs()},
		"no policies": {strings.Join(none, "\n---\n"), []act{
			{do: ``, want: []string{"0 of 0 arrows", "7 workloads", "no policy has a say"}},
			{do: `card("shop/web"); why("to", "shop/db")`, want: []string{"shop/web → shop/db\nall\n",
				"open: no policy isolates it for egress", "open: no policy isolates it for ingress"}},
		}},
		"nothing": {"", []act{{do: ``, want: []string{"0 of 0 arrows", "0 workloads"}}}},
		"no open connection": {`{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a, namespace: shop},
  spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}
`, []act{{do: `card("shop/a")`, want: []string{"0 of 0 arrows", "shop/a\nPod, 1 pod", "MAY TALK TO\nnothing"}}}},
		"ClusterNetworkPolicies": {strings.Join(onlyTiers, "\n---\n"), tierActs()},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			manifests := filepath.Join(dir, "cluster.yaml")
			if err := os.WriteFile(manifests, []byte(tc.manifests), 0o600); err != nil {
				t.Fatal(err)
			}
			page, stderr, _ := execute(t.Context(), "", "connectivity", "-f", manifests, "-o", "html")
			for i, shows := range acted(t, page+stderr, tc.acts) {
				for _, want := range tc.acts[i].want {
					if !strings.Contains(shows, want) {
						t.Errorf("%s: no %q in\n%s", tc.acts[i].do, want, shows)
					}
				}
				for _, not := range tc.acts[i].not {
					if strings.Contains(shows, not) {
						t.Errorf("%s: %q in\n%s", tc.acts[i].do, not, shows)
					}
				}
			}
		})
	}
}

func plainActs() []act {
	return []act{
		{do: ``, want: []string{"13 of 13 arrows", "7 workloads", "no policy has a say", "moved: null"},
			not: []string{"ClusterNetworkPolicies"}},
		{do: `card("shop/api"); torn()`, want: []string{"shop/api\nDeployment, 2 pods",
			"ingress: api, default-deny, metrics", "shop/db\nTCP 5432",
			"bright: api coredns db kube-proxy prometheus web"}},
		{do: `link("shop/backup")`, want: []string{"shop/api → shop/backup\ndenied", "bright: api backup\n",
			"isolated by shop/allow-dns, shop/api, shop/default-deny\ndenied: no rule allows it",
			"nearest: shop/api spec.egress[0]: its peers do not include this one"}},
		{do: `card("shop/web"); why("to", "shop/api")`, want: []string{"shop/web → shop/api\nTCP 8081"}},
		{do: `card("shop/web"); why("from", "monitoring/prometheus")`,
			want: []string{"monitoring/prometheus → shop/web\nTCP 8080, 9090"}},
		{do: `arrow("shop/api", "shop/db")`, want: []string{"shop/api → shop/db\nTCP 5432",
			"allowed by shop/api spec.egress[0]: TCP 5432", "allowed by shop/db spec.ingress[0]: TCP 5432", "app: api",
			"bright: api db\n"}},
		{do: `arrow("monitoring/prometheus", "shop/api")`, want: []string{"open: no policy isolates it for egress",
			"allowed by shop/metrics spec.ingress[0]: TCP 9090"}},
		{do: `card("outside")`, want: []string{"outside\n→ shop/web\nTCP 8080"}},
		{do: `arrow("outside", "shop/web")`, want: []string{"INGRESS OF THE DESTINATION",
			"allowed by shop/web spec.ingress[0]: TCP 8080"}, not: []string{"EGRESS OF THE SOURCE"}},
		{do: `namespace("kube-system")`, want: []string{"kube-system/*\n→ shop/web\nTCP 8080"}},
		{do: `drag()`, want: []string{"kube-system/*\n→ shop/web", "moved: translate("}, not: []string{"moved: null"}},
		{do: `wheel()`, want: []string{"scale(1."}},
		{do: `fit()`, want: []string{"moved: translate(0,0) scale(1)"}},
		{do: `paper()`, want: []string{"7 workloads", "bright: \n"}},
		{do: `enter("#search", "PROM")`, want: []string{"monitoring/prometheus\nStatefulSet, 1 pod", "bright: api"}},
		{do: `enter("#search", "nobody")`, want: []string{"7 workloads"}},
		{do: `enter("#port", "5432")`, want: []string{"2 of 13 arrows"}},
		{do: `enter("#port", "53/udp")`, want: []string{"1 of 13 arrows"}},
		{do: `enter("#port", "53/sctp")`, want: []string{"0 of 13 arrows"}},
		{do: `enter("#namespace", "monitoring")`, want: []string{"0 of 13 arrows"}},
		{do: `enter("#port", "")`, want: []string{"4 of 13 arrows"}, not: []string{"moved: translate(0,0) scale(1)"}},
		{do: `enter("#namespace", "")`, want: []string{"13 of 13 arrows"}},
		{do: `location.hash = "#shop/db"`, want: []string{"shop/db\nStatefulSet, 1 pod"}},
		{do: `location.hash = "#shop/web->shop/db"`, want: []string{"shop/web → shop/db\ndenied"}},
	}
}

func bothActs() []act {
	return []act{
		{do: ``, want: []string{"NetworkPolicies isolate the pods", "only ClusterNetworkPolicies have a say"}},
		{do: `arrow("monitoring/prometheus", "shop/db")`, want: []string{"monitoring/prometheus → shop/db\nTCP 9090",
			"Admin: shop-guard rule 1 `monitoring` accepts: TCP 9090", "action: Accept",
			"Admin: shop-guard rule 2 `no-ssh` denies: TCP 22", "denied: no rule allows the rest",
			"nearest: shop/metrics spec.ingress[0]: tier Admin has already decided everything that it allows"}},
		{do: `card("shop/web"); why("to", "kube-system/coredns")`, want: []string{
			"no NetworkPolicy isolates it\nBaseline: base rule 1 `not-from-web` denies: all"}},
		{do: `card("shop/web"); link("shop/db")`, want: []string{"shop/web → shop/db\ndenied",
			"Admin: shop-guard rule 2 `no-ssh` denies: TCP 22", "isolated by shop/db"}},
	}
}

func tierActs() []act {
	return []act{
		{do: ``, want: []string{"only ClusterNetworkPolicies have a say", "7 of 7 arrows"},
			not: []string{"NetworkPolicies isolate"}},
		{do: `card("shop/db")`, want: []string{"ingress: Admin: shop-guard; Baseline: base\n", "denied: shop/web"}},
		{do: `link("shop/web")`, want: []string{"shop/web → shop/db\ndenied", "Baseline: base rule 1 `not-from-web` " +
			"denies: all", "open: no policy isolates it for egress"}},
		{do: `arrow("kube-system/coredns", "shop/*")`, want: []string{"kube-system/coredns → shop/*\nall but TCP 22",
			"Admin: shop-guard rule 2 `no-ssh` denies: TCP 22",
			"open: no policy isolates it for ingress: all but TCP 22"}},
		{do: `arrow("shop/*", "0.0.0.0/0 except 169.254.169.254/32")`,
			want: []string{"shop/* → 0.0.0.0/0 except 169.254.169.254/32\nall",
				"open: no policy isolates it for egress"}},
	}
}

// acted returns what a page shows after each of the acts, in a browser.
func acted(t *testing.T, page string, acts []act) []string {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		browser, err = exec.LookPath("google-chrome")
	}
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("no browser: ", err)
	}
	person, err := os.ReadFile("testdata/person.js")
	if err != nil {
		t.Fatal(err)
	}
	var steps strings.Builder
	for _, a := range acts {
		steps.WriteString("() => {" + a.do + "},\n")
	}
	// Animations wait for frames, of which there are none without a screen.
	page = strings.Replace(page, "<head>", "<head><script>requestAnimationFrame = f => setTimeout(f, 17)</script>", 1)
	page = strings.Replace(page, "</body>", "<script>const steps = ["+steps.String()+"];</script><script>"+
		string(person)+"</script></body>", 1)
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--window-size=1400,900", "--virtual-time-budget=60000", "--user-data-dir="+t.TempDir(), "--dump-dom",
		"file://"+file)
	var problems strings.Builder
	cmd.Stderr = &problems
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	_, text, found := strings.Cut(string(dom), `data-results="`)
	text, _, _ = strings.Cut(text, `"`)
	var shows []string
	if text, err = url.PathUnescape(text); err == nil {
		err = json.Unmarshal([]byte(text), &shows)
	}
	if err != nil || !found || len(shows) != len(acts) {
		t.Fatalf("%d acts, %d results: %v: %s", len(acts), len(shows), err, problems.String())
	}
	return shows
}
