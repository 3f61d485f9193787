// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPodAddresses: an address that no pod can have is named, and is not the pod's.
func TestPodAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1": "", "::ffff:10.0.0.1": "", "169.254.7.7": "", "fe80::7": "",
		"127.0.0.1":        "pod /: status.podIPs[0]: 127.0.0.1 cannot be a pod's address",
		"::ffff:127.0.0.1": "pod /: status.podIPs[0]: ::ffff:127.0.0.1 cannot be a pod's address",
		"::1":              "pod /: status.podIPs[0]: ::1 cannot be a pod's address",
		"0.0.0.0":          "pod /: status.podIPs[0]: 0.0.0.0 cannot be a pod's address",
		"::":               "pod /: status.podIPs[0]: :: cannot be a pod's address",
		"::ffff:0:0":       "pod /: status.podIPs[0]: ::ffff:0.0.0.0 cannot be a pod's address",
		"224.0.0.1":        "pod /: status.podIPs[0]: 224.0.0.1 cannot be a pod's address",
		"ff02::1":          "pod /: status.podIPs[0]: ff02::1 cannot be a pod's address",
		"fe80::1%eth0":     `pod /: status.podIPs[0]: "fe80::1%eth0" is not an IP address`,
	} {
		ips := []corev1.PodIP{{IP: address}, {IP: "10.0.0.2"}}
		p, _, err := PodFrom(&corev1.Pod{Status: corev1.PodStatus{PodIPs: ips}})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want || len(p.IPs) != 2-min(1, len(want)) {
			t.Errorf("%s: addresses %v, error %q, want %q", address, p.IPs, got, want)
		}
	}
}
