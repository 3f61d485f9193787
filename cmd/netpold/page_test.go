// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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

// TestPicture reads the pictures as what they are: XML, and a page that asks for nothing from anywhere.
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

// TestPage opens the page in a browser and asks what a person would click on.
func TestPage(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium: ", err)
	}
	page, _, _ := execute(t.Context(), "", "connectivity", "-f", shop, "-o", "html")
	file := filepath.Join(t.TempDir(), "shop.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for at, wants := range map[string][]string{
		"": {"13 of 13 arrows", "7 workloads", "no policy isolates them"},
		"shop/api": {
			"<h2>shop/api</h2>", "ingress: api, default-deny, metrics", "<span>shop/db</span><span>TCP 5432</span>",
			`<g class="workload on picked"`,
		},
		"shop/web->shop/db": {
			`<p class="no">denied: no rule allows it</p>`,
			"nearest: shop/web spec.egress[0]: its peers do not include this one",
			"nearest: shop/db spec.ingress[0]: its peers do not include this one",
		},
		"shop/api->shop/db": {
			"allowed by shop/api spec.egress[0]: TCP 5432", "allowed by shop/db spec.ingress[0]: TCP 5432", "app: api",
		},
		"monitoring/prometheus->shop/api": {
			"open: no policy isolates it for egress", "allowed by shop/metrics spec.ingress[0]: TCP 9090",
		},
	} {
		dom := opened(t, browser, "file://"+file+"#"+url.PathEscape(at))
		for _, want := range wants {
			if !strings.Contains(dom, want) {
				_, panel, _ := strings.Cut(dom, "<aside")
				panel, _, _ = strings.Cut(panel, "</aside>")
				t.Errorf("#%s: no %q in\n%s", at, want, panel)
			}
		}
	}
}

// opened returns a page as it is when its program has run.
func opened(t *testing.T, browser, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu",
		"--virtual-time-budget=5000", "--user-data-dir="+t.TempDir(), "--dump-dom", address)
	var problems strings.Builder
	cmd.Stderr = &problems
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	return string(dom)
}
