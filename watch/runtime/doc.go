// SPDX-License-Identifier: Apache-2.0

// Package runtime learns the addresses of this node's pods from the container runtime, over NRI, before their first
// container starts.
//
//	kubelet ── RunPodSandbox ──► runtime ── CNI: the pod has addresses
//	                                │
//	                                ├── RunPodSandbox ──► Plugin ── Admit ──► watch.Loop ──► the kernel
//	                                │◄──────── answer ────────┘◄───────────────┘ holds what follows
//	                                ▼
//	                             containers start          status.podIP comes by the API, up to a second later
//
// The API and the runtime report the same pods: the runtime decides their addresses while the sandbox lives, the API
// everything else. The runtime waits for an answer for a limited time, 2 s by default, and lets the pod start without
// one.
package runtime
