// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	etcdAddress     = "127.0.0.1:2379"
	etcdPeerAddress = "127.0.0.1:2380"
)

// startEtcd starts an empty etcd and returns when it serves. It does not wait for the disk, as no test needs data after
// a crash of etcd.
func (c *Cluster) startEtcd(ctx context.Context) error {
	p, err := c.thread.start(filepath.Join(c.bin, etcdProgram), c.path("etcd.log"),
		"--name=test",
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls=http://"+etcdAddress,
		"--advertise-client-urls=http://"+etcdAddress,
		"--listen-peer-urls=http://"+etcdPeerAddress,
		"--initial-advertise-peer-urls=http://"+etcdPeerAddress,
		"--initial-cluster=test=http://"+etcdPeerAddress,
		"--unsafe-no-fsync",
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	c.etcd = p
	return p.ready(ctx, func(ctx context.Context) error {
		_, err := c.newRevision(ctx)
		return err
	})
}

// Compact makes etcd forget every revision that a client can have seen. A client that then resumes a watch gets 410
// Gone and must list again, unless the API server still has the events in memory. It forgets them when it stops, so
// StopAPIServer, Compact, StartAPIServer makes every client list again. Compact works while the API server is stopped.
func (c *Cluster) Compact(ctx context.Context) error {
	revision, err := c.newRevision(ctx)
	if err != nil {
		return err
	}
	var answer struct{}
	return c.callEtcd(ctx, "/v3/kv/compaction", map[string]any{"revision": revision, "physical": true}, &answer)
}

// Store puts an object into etcd as it is, bypassing the API server's checks, as if another version of the API server
// had accepted it. The object needs apiVersion, kind, namespace, name and uid; resource is the plural, such as
// networkpolicies.
func (c *Cluster) Store(ctx context.Context, resource string, object metav1.Object) error {
	value, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode %s %s/%s: %w", resource, object.GetNamespace(), object.GetName(), err)
	}
	key := "/registry/" + resource + "/" + object.GetNamespace() + "/" + object.GetName()
	var answer struct{}
	return c.callEtcd(ctx, "/v3/kv/put", map[string][]byte{"key": []byte(key), "value": value}, &answer)
}

// newRevision makes a revision by writing a meaningless key, and returns it as text, as the gateway writes 64-bit
// numbers.
func (c *Cluster) newRevision(ctx context.Context) (string, error) {
	var answer struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	if err := c.callEtcd(ctx, "/v3/kv/put", map[string][]byte{"key": []byte("netpold-test")}, &answer); err != nil {
		return "", err
	}
	return answer.Header.Revision, nil
}

// callEtcd makes one call to etcd's JSON gateway.
func (c *Cluster) callEtcd(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode the request to etcd: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+etcdAddress+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	transport := &http.Transport{DialContext: c.thread.dial, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read etcd's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask etcd: %s: %s: %s", path, response.Status, bytes.TrimSpace(body))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("decode etcd's answer: %w", err)
	}
	return nil
}
