// SPDX-License-Identifier: Apache-2.0

// Package roster names the workloads that an answer of package connectivity is about, and says which workload a pod
// belongs to. It writes many of them as an operator would: by namespace, and with what is excepted.
package roster
