// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// DidYouMean returns a suffix for the mention of an unknown name: " (did you mean NAME?)" with the nearest of names, or
// "" if none is near.
func DidYouMean(name string, names []string) string { return didYouMean(name, slices.Values(names)) }

func didYouMean(name string, names iter.Seq[string]) string {
	nearest, best := "", 2+len(name)/8 // anything farther is not a typo
	for candidate := range names {
		far := distance(name, candidate, best)
		if far < best || far == best && (nearest == "" || candidate < nearest) {
			nearest, best = candidate, far
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", nearest)
}

// distance returns the distance of two names, if not more than most: one for a prefix, such as a workload's name and
// its pod's, or for the same name in another namespace; otherwise the number of characters changed, added, left out or
// swapped.
func distance(name, other string, most int) int {
	_, pod, _ := strings.Cut(name, "/")
	switch {
	case strings.HasPrefix(other, name+"-"), pod != "" && strings.HasSuffix(other, "/"+pod):
		return 1
	case max(len(name), len(other))-min(len(name), len(other)) > most:
		return most + 1
	}
	before, row := []int(nil), make([]int, len(other)+1) // rows of the table of distances between prefixes
	for j := range row {
		row[j] = j
	}
	for i := range len(name) {
		next := make([]int, len(row))
		next[0] = i + 1
		for j := range len(other) {
			change := row[j]
			if name[i] != other[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && name[i] == other[j-1] && name[i-1] == other[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(other)]
}
