// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/folder"
)

// The sections of a file.
const (
	clusterSection = "cluster.yaml"
	flowsSection   = "flows"
	errorsSection  = "errors"
	tableSection   = "table.nft"
)

// Case is one golden case.
type Case struct {
	Name    string // of the file, without .txtar
	File    string // its path
	Title   string // the first sentence of its comment
	Node    string // whose ruleset it shows
	Options translate.Options
	Cluster *policy.Cluster
	Flows   []Flow
	Table   string   // as in the file
	Errors  []string // as in the file

	readErrors []error // of the manifests
	archive    *txtar.Archive
}

// Load reads all cases in a folder, ordered by name.
func Load(dir string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("cases: none in %s", dir)
	}
	var all []*Case
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cases: %w", err)
		}
		c, err := Parse(file, data)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Parse parses the case in a file. Errors begin with file:line.
func Parse(file string, data []byte) (*Case, error) {
	c := &Case{
		Name:    strings.TrimSuffix(filepath.Base(file), ".txtar"),
		File:    file,
		Options: translate.Options{LogGroup: 86},
		archive: txtar.Parse(data),
	}
	if err := c.parseHeader(); err != nil {
		return nil, err
	}
	for _, f := range c.archive.Files {
		switch f.Name {
		case clusterSection:
			c.Cluster, c.readErrors = folder.Read(clusterSection, bytes.NewReader(f.Data))
		case tableSection:
			c.Table = string(f.Data)
		case errorsSection:
			c.Errors = slices.Collect(lines(f.Data))
		case flowsSection:
		default:
			return nil, fmt.Errorf("%s: unknown section %q", file, f.Name)
		}
	}
	if c.Cluster == nil {
		return nil, fmt.Errorf("%s: no section %s", file, clusterSection)
	}
	if c.Node == "" && len(c.Cluster.Pods) > 0 {
		c.Node = c.firstNode()
	}
	if c.Node == "" {
		return nil, fmt.Errorf("%s: no pod is on a node, and no line says node: NAME", file)
	}
	c.Cluster.PodToNode = c.Options.PodToNode
	c.Cluster.Guard = random.Guard(c.Cluster, c.Node, c.Options)
	return c, c.parseFlows(data)
}

// parseHeader parses the lines before the first section.
func (c *Case) parseHeader() error {
	number := 0
	var prose []string
	for line := range strings.Lines(string(c.archive.Comment)) {
		number++
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(line, "#"):
			prose = append(prose, strings.TrimSpace(strings.TrimLeft(line, "#")))
		case line == "":
		case key == "node":
			c.Node = value
		case key == "flags":
			if err := c.parseFlags(value); err != nil {
				return fmt.Errorf("%s:%d: %w", c.File, number, err)
			}
		default:
			return fmt.Errorf("%s:%d: want # text, node: NAME or flags: FLAGS", c.File, number)
		}
	}
	paragraph, _, _ := strings.Cut(strings.Join(prose, " ")+"  ", "  ") // an empty line is between two spaces
	c.Title, _, _ = strings.Cut(paragraph+" ", ". ")
	if c.Title = strings.TrimRight(c.Title, " ."); c.Title == "" {
		return fmt.Errorf("%s:1: no # line says what it shows", c.File)
	}
	return nil
}

// parseFlags parses flags of `netpold render`.
func (c *Case) parseFlags(text string) error {
	for flag := range strings.FieldsSeq(text) {
		switch flag {
		case "--deny=drop", "--established=keep", "--log-group=86", "--pod-to-node=filter":
		case "--deny=reject":
			c.Options.Deny = nft.Reject
		case "--established=recheck":
			c.Options.Established = frame.Recheck
		case "--pod-to-node=allow":
			c.Options.PodToNode = policy.AllowPodToNode
		case "--log-group=0":
			c.Options.LogGroup = 0
		case "--unknown-pods=deny":
			c.Options.Guard.UnknownPods = guard.Deny
		default:
			if err := c.parseGuard(flag); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseGuard parses a flag that says which addresses or links belong to pods.
func (c *Case) parseGuard(flag string) error {
	name, values, _ := strings.Cut(flag, "=")
	for value := range strings.SplitSeq(values, ",") {
		switch name {
		case "--pod-ranges":
			p, err := netip.ParsePrefix(value)
			if err != nil {
				return fmt.Errorf("%s: %w", flag, err)
			}
			c.Options.Guard.Ranges = guard.Ranges(append(c.Options.Guard.Ranges, p))
		case "--pod-links":
			c.Options.Guard.Links = append(c.Options.Guard.Links, value)
		default:
			return fmt.Errorf("unknown flag %s", flag)
		}
	}
	return nil
}

// firstNode returns the node of the first pod in the file.
func (c *Case) firstNode() string {
	_, after, _ := strings.Cut(string(c.section(clusterSection)), "nodeName:")
	after, _, _ = strings.Cut(after, "\n")
	return strings.FieldsFunc(after+" ", func(r rune) bool { return strings.ContainsRune(" ,}\"", r) })[0]
}

// section returns the text of a section.
func (c *Case) section(name string) []byte {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// Nodes returns the nodes of the cluster's pods, and that of the case, sorted.
func (c *Case) Nodes() []string {
	nodes := []string{c.Node}
	for _, p := range c.Cluster.Pods {
		nodes = append(nodes, p.Node)
	}
	slices.Sort(nodes)
	return slices.DeleteFunc(slices.Compact(nodes), func(node string) bool { return node == "" })
}

// State returns one node's state of the cluster, and what `netpold render` reports.
func (c *Case) State(node string) (*translate.State, []string) {
	options := c.Options
	if node != c.Node { // the guard is only its
		options.Guard.UnknownPods = guard.Allow
	}
	s := translate.New(node, options)
	var text []string
	for _, err := range append(slices.Clone(c.readErrors), s.Add(c.Cluster)...) {
		text = append(text, err.Error())
	}
	return s, text
}

// Format returns the case's file with new content in the generated sections.
func (c *Case) Format(table string, errs []string) []byte {
	a := &txtar.Archive{Comment: c.archive.Comment}
	for _, f := range c.archive.Files {
		if f.Name != errorsSection && f.Name != tableSection {
			a.Files = append(a.Files, f)
		}
	}
	if len(errs) > 0 {
		a.Files = append(a.Files, txtar.File{Name: errorsSection, Data: []byte(strings.Join(errs, "\n") + "\n")})
	}
	a.Files = append(a.Files, txtar.File{Name: tableSection, Data: []byte(table)})
	return txtar.Format(a)
}
