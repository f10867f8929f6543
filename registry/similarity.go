package registry

import "strings"

// Alike is the Similarity from which two names are taken for alike, as in PostgreSQL's pg_trgm.
const Alike = 0.3

// Similarity compares two folded names by the trigrams that they share, as pg_trgm does: 1 for the same, 0 for nothing in
// common. Each word counts with two spaces before it and one after.
func Similarity(a, b string) float64 {
	x, y := Trigrams(a), Trigrams(b)
	shared := 0
	for t := range x {
		if y[t] {
			shared++
		}
	}
	if all := len(x) + len(y) - shared; all > 0 {
		return float64(shared) / float64(all)
	}
	return 0
}

// Trigrams returns the trigrams of a folded name.
func Trigrams(s string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(s) {
		runes := []rune("  " + word + " ")
		for i := range len(runes) - 2 {
			set[string(runes[i:i+3])] = true
		}
	}
	return set
}
