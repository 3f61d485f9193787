// SPDX-License-Identifier: Apache-2.0

// Package content joins the rules of an isolation's policies into what they allow together, by kind of match, and
// leaves out rules that exceed the limits. The caller owns the selectors and knows what they match.
package content
