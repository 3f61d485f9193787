// SPDX-License-Identifier: Apache-2.0

// Package index knows the pods: who owns an address, which pods policy cannot tell apart, and which selectors match
// them. It tells its [User] what changes, and keeps the user's data with each identity and each selector, so that an
// event needs no second lookup. It knows neither policies nor the table.
package index
