// SPDX-License-Identifier: Apache-2.0

// Package trace interprets a table: it follows the first packet of a connection from rule to rule, and says which
// matched, what each lookup found or missed, and the verdict. It is the model of the kernel that tests compare with the
// kernel, and that explain shows. It has no connection tracking, no clock and no limits.
package trace
