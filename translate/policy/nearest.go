// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// DidYouMean returns what to say of a name that is not there: " (did you mean NAME?)" with the one of names that comes
// nearest, or "" if none comes near. It is meant to follow the name.
func DidYouMean(name string, names []string) string { return didYouMean(name, slices.Values(names)) }

func didYouMean(name string, names iter.Seq[string]) string {
	nearest, best := "", 2+len(name)/8 // farther than that is not a typo
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

// distance says how far a name is from another, as far as it is not more than most: one for what begins so, as the name
// of a workload and that of its pod, and for the same in another namespace; else how many characters are to be changed,
// added, left out or swapped.
func distance(name, other string, most int) int {
	_, pod, _ := strings.Cut(name, "/")
	switch {
	case strings.HasPrefix(other, name+"-"), pod != "" && strings.HasSuffix(other, "/"+pod):
		return 1
	case max(len(name), len(other))-min(len(name), len(other)) > most:
		return most + 1
	}
	before, row := []int(nil), make([]int, len(other)+1) // of the table of distances between beginnings
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
