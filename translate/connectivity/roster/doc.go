// SPDX-License-Identifier: Apache-2.0

// Package roster names the workloads in answers of package connectivity, and says which workload a pod belongs to. It
// writes lists as an operator would: by namespace, and with exceptions.
package roster
