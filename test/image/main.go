// SPDX-License-Identifier: Apache-2.0

// Command image makes the container image of netpold: the static binary and nothing else, for each platform with a
// given binary. Nothing is pulled and nothing is run.
//
//	image -tag netpold:latest -out netpold.tar linux/amd64=bin/netpold linux/arm64=bin/netpold-arm64
package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	tag := flag.String("tag", "netpold:latest", "the image's name")
	out := flag.String("out", "", "write an OCI archive, which docker load, podman load and ctr images import read")
	push := flag.Bool("push", false, "push it to the registry in its name, with the login of docker or podman")
	flag.Parse()
	if err := run(*tag, *out, *push, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(tag, out string, push bool, binaries []string) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	index, err := newIndex(binaries)
	if err != nil {
		return err
	}
	if out != "" {
		if err := writeArchive(out, tag, index); err != nil {
			return fmt.Errorf("write %s: %w", out, err)
		}
	}
	if push {
		if err := remote.WriteIndex(ref, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		fmt.Println(ref.Context().Digest(digest.String()))
	}
	return nil
}

// newIndex returns one image for each PLATFORM=FILE, behind one name.
func newIndex(binaries []string) (v1.ImageIndex, error) {
	if len(binaries) == 0 {
		return nil, errors.New("no binary given: want PLATFORM=FILE")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range binaries {
		platform, file, ok := strings.Cut(b, "=")
		if !ok {
			return nil, fmt.Errorf("%s: want PLATFORM=FILE, such as linux/amd64=bin/netpold", b)
		}
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return nil, err
		}
		image, err := newImage(p, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
	}
	return index, nil
}

// newImage returns the image of a binary for one platform. Its date is that of the binary's commit, so that the same
// binary always gives the same image.
func newImage(p *v1.Platform, file string) (v1.Image, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["GOOS"] != p.OS || settings["GOARCH"] != p.Architecture {
		return nil, fmt.Errorf("the binary is for %s/%s", settings["GOOS"], settings["GOARCH"])
	}
	created, err := time.Parse(time.RFC3339, settings["vcs.time"])
	if err != nil {
		created = time.Unix(0, 0) // not built from a commit
	}
	layer, err := newLayer(file, created)
	if err != nil {
		return nil, err
	}
	history := v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY netpold /bin/"}
	base := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: history})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.Created = v1.Time{Time: created}
	config.Config = v1.Config{
		Entrypoint: []string{"/bin/netpold"},
		Env:        []string{"PATH=/bin"}, // so that `kubectl exec ds/netpold -- netpold status` finds it
		Labels: map[string]string{
			"org.opencontainers.image.title":       "netpold",
			"org.opencontainers.image.description": "Enforces Kubernetes NetworkPolicy with one nftables table",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.source":      "https://github.com/netpold/netpold",
			"org.opencontainers.image.version":     info.Main.Version,
			"org.opencontainers.image.revision":    settings["vcs.revision"],
		},
	}
	maps.DeleteFunc(config.Config.Labels, func(_, value string) bool { return value == "" || value == "(devel)" })
	return mutate.ConfigFile(image, config)
}

// newLayer returns the layer with the binary as /bin/netpold, owned by user 0, and nothing else.
func newLayer(file string, created time.Time) (v1.Layer, error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755, ModTime: created},
		{Typeflag: tar.TypeReg, Name: "bin/netpold", Mode: 0o755, ModTime: created, Size: int64(len(binary))},
	} {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open,
		tarball.WithMediaType(types.OCILayer))
}

// writeArchive writes an OCI layout as one file, with the manifest.json that older versions of docker need.
func writeArchive(out, tag string, index v1.ImageIndex) error {
	dir, err := os.MkdirTemp("", "netpold-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing to be done about it
	oci, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	_, short, _ := strings.Cut(path.Base(tag), ":")
	if short == "" {
		short = "latest"
	}
	full, err := fullName(tag)
	if err != nil {
		return err
	}
	err = oci.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          full,
		"org.opencontainers.image.ref.name": short,
	}))
	if err != nil {
		return err
	}
	legacy, err := dockerManifest(tag, index)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), legacy, 0o644); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := writeTar(f, dir); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// fullName returns an image's name as the kubelet passes it to containerd: with docker.io if it has no registry.
func fullName(tag string) (string, error) {
	ref, err := name.NewTag(tag)
	if err != nil {
		return "", err
	}
	if rest, ok := strings.CutPrefix(ref.Name(), name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest, nil
	}
	return ref.Name(), nil
}

// dockerManifest returns the manifest.json of the image for this machine, or of the first one: it can name only one.
func dockerManifest(tag string, index v1.ImageIndex) ([]byte, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	chosen := manifest.Manifests[0]
	for _, m := range manifest.Manifests {
		if m.Platform.Architecture == runtime.GOARCH {
			chosen = m
		}
	}
	image, err := index.Image(chosen.Digest)
	if err != nil {
		return nil, err
	}
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	blob := func(d v1.Descriptor) string { return path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex) }
	layers := []string{blob(m.Layers[0])}
	descriptor := tarball.Descriptor{Config: blob(m.Config), RepoTags: []string{tag}, Layers: layers}
	return json.Marshal([]tarball.Descriptor{descriptor})
}

// writeTar writes the files of a folder, without dates.
func writeTar(out io.Writer, dir string) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		header := tar.Header{
			Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0),
		}
		if err := w.WriteHeader(&header); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	return errors.Join(err, w.Close())
}
