// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// auditPolicy logs each request when it is answered, and a watch both when its answer starts and when it ends, except
// requests of the administrator and of the API server itself.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: [system:masters]
- level: Metadata
`

// Request is one request that the API server answered.
type Request struct {
	User string // system:serviceaccount:<namespace>:<name> for a ServiceAccount
	Verb string // get, list, watch, create, update, patch, delete, deletecollection
	URI  string // with the query
	Code int    // HTTP status
}

func (r Request) String() string {
	return fmt.Sprintf("%s %s %s: %d", r.User, r.Verb, r.URI, r.Code)
}

// Requests returns all requests since the cluster started that were not made with Admin, in the order in which they
// were answered, including watches still open. A request is listed before its client gets the answer.
func (c *Cluster) Requests() ([]Request, error) {
	f, err := os.Open(c.path(auditFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	return readAudit(f)
}

// Forbidden returns the requests of Requests that RBAC or admission refused, one line each.
func (c *Cluster) Forbidden() ([]string, error) {
	requests, err := c.Requests()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, r := range requests {
		if r.Code == http.StatusForbidden {
			lines = append(lines, r.String())
		}
	}
	return lines, nil
}

// readAudit reads a log with one JSON event per line. It leaves out a last line that is not complete yet.
func readAudit(r io.Reader) ([]Request, error) {
	var requests []Request
	seen := make(map[string]bool) // by auditID, so that a watch is not listed again when it ends
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		var event struct {
			AuditID        string `json:"auditID"`
			Verb           string `json:"verb"`
			RequestURI     string `json:"requestURI"`
			User           struct{ Username string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("decode audit log: %w", err)
		}
		if seen[event.AuditID] {
			continue
		}
		seen[event.AuditID] = true
		requests = append(requests, Request{
			User: event.User.Username, Verb: event.Verb, URI: event.RequestURI, Code: event.ResponseStatus.Code,
		})
	}
}
