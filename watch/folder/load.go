// SPDX-License-Identifier: Apache-2.0

// Package folder feeds a [watch.Sink] with the pods, namespaces and policies of a folder of manifests, and reads the
// same for commands that work on a file.
//
// It uses inotify(7) without a library: fsnotify reports writes but not the close after the last one, and half a policy
// may well parse.
package folder

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// How large a file may be, in bytes. Parsing YAML briefly takes some 25 times as much memory, which the daemon, sharing
// a node, does not spend on a file that got into its folder by mistake.
const (
	maxWatched = 64 << 20
	maxLoaded  = 1 << 30
)

// Load returns the objects of a file of manifests, or of all *.yaml, *.yml and *.json files of a folder and its
// subfolders, except names that begin with a dot. Manifests are what kubectl prints, in YAML or JSON: Pods, Namespaces,
// NetworkPolicies, ClusterNetworkPolicies and Nodes, and lists of them; other kinds are ignored. A namespace that has
// objects exists even without a manifest.
//
// The list has a [*Error] for each part that is invalid, which the cluster lacks, in the order of files and lines. The
// last result is an error if nothing could be read.
func Load(path string) (*policy.Cluster, []error, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read manifests: %w", err)
		}
		defer f.Close() //nolint:errcheck // nothing was written
		cluster, errs := Read(path, f)
		return cluster, errs, nil
	}
	files := make(map[string]manifest)
	w := walker{
		enter: func(string) {},
		file:  func(path string) { files[path], _ = readManifest(path, maxLoaded) }, // the manifest has the error
		fail:  func(path string, err error) { files[path] = unreadable(path, err) },
	}
	w.walk(path, path)
	cluster, errs := clusterOf(files)
	return cluster, errs, nil
}

// Read is [Load] for one stream; errors call it name.
func Read(name string, r io.Reader) (*policy.Cluster, []error) {
	data, err := readAll(r, maxLoaded)
	if err != nil {
		return clusterOf(map[string]manifest{name: unreadable(name, err)})
	}
	return clusterOf(map[string]manifest{name: parseManifest(name, data)})
}

// clusterOf returns the objects in files as a cluster, and what is wrong with them.
func clusterOf(files map[string]manifest) (*policy.Cluster, []error) {
	objects, problems := merge(files)
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), Nodes: make(map[string][]netip.Prefix)}
	for _, key := range slices.SortedFunc(maps.Keys(objects), compareKeys) {
		switch v := objects[key].value.(type) {
		case policy.Pod:
			c.Pods = append(c.Pods, v)
		case namespace:
			c.Namespaces[key.Name] = v.labels
			c.SetMode(key.Name, v.mode)
		case *networkingv1.NetworkPolicy:
			c.Policies = append(c.Policies, v)
		case node:
			c.Nodes[key.Name] = v.cidrs
			c.NodePeers = append(c.NodePeers, v.peer)
		case policy.ClusterPolicy:
			c.ClusterPolicies = append(c.ClusterPolicies, v)
		}
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return c, errs
}

// merge returns the objects of all files, the namespaces that they are in, and what is wrong with them. If an object
// appears twice, the first counts, in the order of file names and lines.
func merge(files map[string]manifest) (map[objectKey]*object, []*Error) {
	objects := make(map[objectKey]*object)
	var problems []*Error
	for _, file := range slices.Sorted(maps.Keys(files)) {
		problems = append(problems, files[file].problems...)
		for _, o := range files[file].objects {
			first, twice := objects[o.key]
			if !twice {
				objects[o.key] = o
				continue
			}
			again := o.at
			again.Problem = fmt.Sprintf("is also in %s:%d, which takes precedence", first.at.File, first.at.Line)
			problems = append(problems, &again)
		}
	}
	for _, key := range slices.Collect(maps.Keys(objects)) {
		ns := objectKey{kindNamespace, types.NamespacedName{Name: key.Namespace}}
		if _, exists := objects[ns]; !exists && key.Namespace != "" {
			objects[ns] = &object{key: ns, value: namespace{labels: namespaceLabels(key.Namespace, nil)}}
		}
	}
	return objects, problems
}

func compareKeys(a, b objectKey) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// walker walks a folder of manifests.
type walker struct {
	enter func(dir string)             // called for each folder before it is read
	file  func(path string)            // called for each file that is a manifest by its name
	fail  func(path string, err error) // called for what cannot be read
}

// walk walks a folder, root or one below it, and its subfolders. It follows symbolic links: a mounted ConfigMap is made
// of them.
func (w walker) walk(dir, root string) {
	var ancestors []fs.FileInfo
	for path := dir; path != root && isBelow(path, root); {
		path = filepath.Dir(path)
		if info, err := os.Stat(path); err == nil {
			ancestors = append(ancestors, info)
		}
	}
	w.walkBelow(dir, ancestors)
}

// walkBelow walks a folder inside ancestors, except where a link leads back to one of them.
func (w walker) walkBelow(dir string, ancestors []fs.FileInfo) {
	info, err := os.Stat(dir)
	if err == nil && slices.ContainsFunc(ancestors, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		return
	}
	if err == nil {
		w.enter(dir)
	}
	var entries []fs.DirEntry
	if err == nil {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		w.fail(dir, err)
		return
	}
	ancestors = append(slices.Clip(ancestors), info)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		switch {
		case strings.HasPrefix(entry.Name(), "."):
		case err == nil && info.IsDir():
			w.walkBelow(path, ancestors)
		case isManifest(path):
			w.file(path)
		}
	}
}

// isManifest says whether a file that is not hidden is a manifest by its name.
func isManifest(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path))
}

// readManifest returns the objects in a regular file of up to limit bytes, or why it cannot be read.
func readManifest(path string, limit int) (manifest, error) {
	f, err := openManifest(path)
	if err != nil {
		return unreadable(path, err), err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	before, err := f.Stat()
	var data []byte
	if err == nil {
		data, err = readAll(f, limit)
	}
	after, statErr := f.Stat()
	if err = cmp.Or(err, statErr); err != nil {
		return unreadable(path, err), err
	}
	m := parseManifest(path, data)
	m.torn = len(data) == 0 || int64(len(data)) != after.Size() || !after.ModTime().Equal(before.ModTime())
	return m, nil
}

// slowest bounds the reading of a file that can block, such as the kernel's log or one on FUSE.
const slowest = 3 * time.Second

// openManifest opens a regular file. It does not block on a pipe. /proc/kmsg and the like are regular files, too, but
// never end.
func openManifest(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: filepath.Clean(path), Err: errors.New("not a regular file")}
	}
	_ = f.SetReadDeadline(time.Now().Add(slowest)) // fails for a file on disk, which never blocks
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// unreadable is a file that cannot be read.
func unreadable(path string, err error) manifest {
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("is a dangling symbolic link") // or just deleted
	}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err // the rest is the file name
	}
	return manifest{problems: []*Error{{File: path, Problem: err.Error()}}, broken: true}
}

// readAll reads up to limit bytes; more is an error.
func readAll(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}

// isBelow says whether path is dir or in it.
func isBelow(path, dir string) bool {
	slash := string(filepath.Separator)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, slash)+slash)
}
