// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build builds a program for each architecture and returns the arguments that name them.
func build(t *testing.T, architectures ...string) []string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, arch := range architectures {
		file := filepath.Join(dir, arch)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", file, source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		args = append(args, "linux/"+arch+"="+file)
	}
	return args
}

// TestArchive: the archive is an OCI layout with an image for each platform, and older versions of docker can load it.
func TestArchive(t *testing.T) {
	args := build(t, "amd64", "arm64")
	out := filepath.Join(t.TempDir(), "netpold.tar")
	if err := run("registry.example/netpold:v1", out, false, args); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, out, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	top, err := index.IndexManifest()
	if err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%+v, %v", top, err)
	}
	want := map[string]string{
		"io.containerd.image.name": "registry.example/netpold:v1", "org.opencontainers.image.ref.name": "v1",
	}
	if got := top.Manifests[0].Annotations; !maps.Equal(got, want) {
		t.Errorf("annotations %v", got)
	}
	images, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	check(t, images, args)

	docker, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(docker); err != nil {
		t.Error(err)
	}
	config, err := docker.ConfigFile()
	if err != nil || !slices.Equal(config.Config.Entrypoint, []string{"/bin/netpold"}) {
		t.Errorf("docker load has %+v, %v", config, err)
	}

	again := filepath.Join(t.TempDir(), "again.tar")
	if err := run("registry.example/netpold:v1", again, false, args); err != nil {
		t.Fatal(err)
	}
	if a, b := read(t, out), read(t, again); !bytes.Equal(a, b) {
		t.Error("the same binaries gave another archive")
	}
}

// TestFullName: the kubelet finds an archive imported by ctr under the name that it was given.
func TestFullName(t *testing.T) {
	for tag, want := range map[string]string{
		"netpold:latest":              "docker.io/library/netpold:latest",
		"netpold":                     "docker.io/library/netpold:latest",
		"someone/netpold:2":           "docker.io/someone/netpold:2",
		"registry.example/netpold:v1": "registry.example/netpold:v1",
	} {
		if got, err := fullName(tag); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", tag, got, err, want)
		}
	}
}

// TestPush pushes the image to its own registry, where each platform finds it by the same name.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	tag := strings.TrimPrefix(server.URL, "http://") + "/netpold:v1"
	args := build(t, "amd64", "riscv64")
	if err := run(tag, "", true, args); err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	check(t, index, args)
	image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "riscv64"}))
	if err != nil {
		t.Fatal(err)
	}
	if config, err := image.ConfigFile(); err != nil || config.Architecture != "riscv64" {
		t.Errorf("%+v, %v", config, err)
	}
}

// TestRefused: a binary cannot be passed off as another platform's.
func TestRefused(t *testing.T) {
	args := build(t, "amd64")
	for _, wrong := range [][]string{
		nil, {"bin/netpold"}, {"linux/amd64=" + filepath.Join(t.TempDir(), "none")}, {"linux/amd64=main.go"},
		{strings.Replace(args[0], "amd64=", "arm64=", 1)},
	} {
		if err := run("netpold", filepath.Join(t.TempDir(), "out"), false, wrong); err == nil {
			t.Errorf("%v: not refused", wrong)
		}
	}
}

// check checks that there is an image for each argument, with only that binary.
func check(t *testing.T, index v1.ImageIndex, args []string) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != len(args) {
		t.Fatalf("%+v, %v: want %d images", manifest, err, len(args))
	}
	for i, m := range manifest.Manifests {
		platform, file, _ := strings.Cut(args[i], "=")
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if m.Platform.String() != platform || config.OS+"/"+config.Architecture != platform {
			t.Errorf("%s is named %s in the index and %s/%s in itself", platform, m.Platform, config.OS,
				config.Architecture)
		}
		got := config.Config
		if got.Labels["org.opencontainers.image.licenses"] != "Apache-2.0" ||
			!slices.Equal(got.Env, []string{"PATH=/bin"}) {
			t.Errorf("%s: configuration %+v", platform, got)
		}
		var files []string
		for r := tar.NewReader(mutate.Extract(image)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, h.Name)
			text, err := io.ReadAll(r)
			if h.Typeflag == tar.TypeReg &&
				(err != nil || h.Mode != 0o755 || h.Uid != 0 || !bytes.Equal(text, read(t, file))) {
				t.Errorf("%s: %s has mode %o, user %d, and other content or %v", platform, h.Name, h.Mode, h.Uid, err)
			}
		}
		slices.Sort(files)
		found, _ := json.Marshal(files)
		if string(found) != `["bin/","bin/netpold"]` && string(found) != `["bin","bin/netpold"]` {
			t.Errorf("%s: files %s", platform, found)
		}
	}
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
