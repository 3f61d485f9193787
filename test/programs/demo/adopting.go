// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/netpold/netpold/test/harness/pods"
)

// adopting is the last story, that of docs/adopting.md: a namespace without policies gets some, and nothing breaks.
type adopting struct {
	*screen
	shop      *pods.Shop
	netpold   string
	manifests string // the folder
	suggested string // the file
	agent     *agent
}

// tellAdopting plays the story.
func tellAdopting(ctx context.Context, out *screen, netpold string) error {
	a := adopting{screen: out, shop: pods.NewShop("6"), netpold: netpold, manifests: "shop", suggested: "shop.yaml"}
	out.title("6. From no policies to policies that fit")
	out.say("A shop with three tiers, the cluster's DNS, a bank outside, and a notebook that has no business there.\n" +
		"There are no policies, so everything is open:")
	defer func() {
		for _, p := range a.shop.Pods {
			p.Stop()
		}
	}()
	if err := a.start(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{a.see, a.observe, a.suggest, a.audit, a.enforce, a.explain} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := a.agent.stop(); err != nil {
		return err
	}
	return pods.Shell(ctx, netpold+" cleanup")
}

// start starts the shop, and a netpold that observes.
func (a *adopting) start(ctx context.Context) error {
	process := func() *exec.Cmd { return again(ctx, rolePod) }
	if err := pods.StartAll(ctx, a.shop.Pods, "shop", process); err != nil {
		return err
	}
	if err := os.Mkdir(a.manifests, 0o755); err != nil {
		return fmt.Errorf("make a folder for the manifests: %w", err)
	}
	all, namespaces := pods.Manifests(a.shop.Pods, nodeName)
	for _, name := range namespaces {
		if err := a.namespace(name, ""); err != nil {
			return err
		}
	}
	err := replaceFile(filepath.Join(a.manifests, "cluster.yaml"), all)
	if err != nil {
		return err
	}
	if a.agent, err = startAgent(ctx, a.netpold, a.manifests, "--observe"); err != nil {
		return err
	}
	return a.agent.committed()
}

func (a *adopting) see(ctx context.Context) error {
	return runNetpold(ctx, a.screen, a.netpold, []string{"connectivity", "-f", a.manifests, "-n", "shop"})
}

func (a *adopting) observe(ctx context.Context) error {
	a.say("Observe: the shop goes about its business, and the kernel counts its connections.")
	if err := a.expect(a.shop.Talk, true); err != nil {
		return err
	}
	return runNetpold(ctx, a.screen, a.netpold, []string{"flows", "-n", "shop"})
}

// suggest shows what the policies change, and one of the policies.
func (a *adopting) suggest(ctx context.Context) error {
	a.say("Suggest: policies that allow what was seen, and which connections they would end:")
	cmd := exec.CommandContext(ctx, a.netpold, "suggest", "-n", "shop", "-f", a.manifests)
	var policies, changes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &policies, &changes
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("netpold suggest: %w: %s", err, changes.String())
	}
	a.say("$ netpold suggest -n shop -f " + a.manifests + " > shop.yaml")
	a.block(changes.String())
	if err := os.WriteFile(a.suggested, policies.Bytes(), 0o600); err != nil {
		return fmt.Errorf("keep the policies: %w", err)
	}
	for policy := range strings.SplitSeq(policies.String(), "---\n") {
		if strings.Contains(policy, "name: db-ingress\n") {
			a.say("One of them:")
			a.block(policy)
			return nil
		}
	}
	return errors.New("no policy db-ingress is suggested")
}

// namespace writes a namespace, with its annotations.
func (a *adopting) namespace(name, annotations string) error {
	return replaceFile(filepath.Join(a.manifests, "namespace-"+name+".yaml"), fmt.Sprintf(
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, annotations: {%s}}\n", name, annotations))
}

// audit applies the policies without enforcing them.
func (a *adopting) audit(ctx context.Context) error {
	a.say("Audit: annotate the namespace with netpold.io/mode=audit, and apply the policies. Nothing is blocked\n" +
		"yet, but netpold logs what would be:")
	if err := a.namespace("shop", "netpold.io/mode: audit"); err != nil {
		return err
	}
	if err := os.Rename(a.suggested, filepath.Join(a.manifests, "shop.yaml")); err != nil {
		return fmt.Errorf("apply the policies: %w", err)
	}
	if err := a.agent.committed(); err != nil {
		return err
	}
	if err := a.expect(slices.Concat(a.shop.Talk, a.shop.Intrude), true); err != nil {
		return err
	}
	if err := a.agent.await("would be blocked"); err != nil {
		return err
	}
	return runNetpold(ctx, a.screen, a.netpold, []string{"drops", "--audit", "-n", "shop"})
}

// enforce removes the annotation.
func (a *adopting) enforce(context.Context) error {
	a.say("Enforce: remove the annotation. The shop works as before, and the notebook no longer reaches it:")
	if err := a.namespace("shop", ""); err != nil {
		return err
	}
	if err := a.agent.committed(); err != nil {
		return err
	}
	if err := a.expect(a.shop.Talk, true); err != nil {
		return err
	}
	return a.expect(a.shop.Intrude, false)
}

func (a *adopting) explain(ctx context.Context) error {
	return runNetpold(ctx, a.screen, a.netpold, []string{"explain", "lab/notebook", "shop/db-0:5432"})
}

// expect shows which of some connections are answered; either all or none must be.
func (a *adopting) expect(all []pods.Talk, want bool) error {
	var wrong error
	var got []bool
	for range attempts {
		var err error
		if got, err = pods.Reached(all); err != nil {
			return err
		}
		wrong = nil
		for i, t := range all {
			if got[i] != want {
				wrong = fmt.Errorf("%s to %s: reached: %t, want %t", t.From, t.To, got[i], want)
			}
		}
		if wrong == nil {
			break
		}
	}
	a.talks(all, got)
	return wrong
}
