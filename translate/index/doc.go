// SPDX-License-Identifier: Apache-2.0

// Package index knows which pods there are: who owns an address, which pods policy cannot tell apart, and which
// selectors match them. It tells its [User] what changes, and keeps with each identity and each selector what the user
// has of it, so that nothing is looked up twice for an event. It knows neither policies nor the table.
package index
