// SPDX-License-Identifier: Apache-2.0

// Package setup holds the scripts that prepare a machine for `make demo` and `make test`. Its tests run them with fake
// programs in the path.
package setup
