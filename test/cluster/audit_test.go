// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadAudit(t *testing.T) {
	const whole = `{"auditID":"1","verb":"list","requestURI":"/api/v1/secrets","user":{"username":"u"},` +
		`"responseStatus":{"metadata":{},"code":403}}` + "\n"
	want := []Request{{User: "u", Verb: "list", URI: "/api/v1/secrets", Code: 403}}
	for _, tc := range []struct {
		name, log string
		want      []Request
	}{
		{"empty", "", nil},
		{"one", whole, want},
		{"two", whole + strings.Replace(whole, `"1"`, `"2"`, 1), append(want, want...)},
		{"start and end of one", whole + whole, want},
		{"last not written fully", whole + whole[:20], want},
	} {
		got, err := readAudit(strings.NewReader(tc.log))
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %v, %v, want %v", tc.name, got, err, tc.want)
		}
	}
	if got, err := readAudit(strings.NewReader("{]\n")); err == nil {
		t.Errorf("not JSON: got %v, want an error", got)
	}
	if got := want[0].String(); got != "u list /api/v1/secrets: 403" {
		t.Errorf("as text: %q", got)
	}
}
