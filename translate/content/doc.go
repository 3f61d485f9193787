// SPDX-License-Identifier: Apache-2.0

// Package content joins the rules of an isolation's policies to what they allow together, by the kind of match that it
// needs, and leaves out the rules that ask for more than the limits. Selectors are the caller's, who knows what they
// match.
package content
