// Package dedup looks for farmers who are registered twice. After each synchronisation, import or registration a queue
// job compares those who are new, or have another name or birth date, with everybody who might be the same person, and
// puts likely pairs into the review queue: a person decides.
//
// It owns the rule by which two farmers are likely to be one. Which farmers are looked at at all is store.Around's matter.
package dedup

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
)

// Method is the name of the queue job. Its payload is the farmers' uids, with spaces between them.
const Method = "dedup"

// Threshold is the score from which two farmers are likely to be one.
const Threshold = 750

// The rule, in thousandths. Name and birth date decide; the village tips the balance. A father and a son of the same
// name in the same village score 700.
const (
	name       = 600  // x registry.Similarity of the folded names, whichever comes first
	sameDay    = 300  // born on the same day
	newYear    = 200  // the same, but the 1st of January, which stands for a day that nobody remembers
	slip       = 100  // one digit of the birth date differs, or day and month are exchanged
	samePlace  = 100  // the same village
	otherID    = -400 // both have a national id, and not the same
	slipOfID   = -100 // those differ in one character, or two neighbours are exchanged
	resembling = 300  // names less alike than this are nobody's, whatever else agrees
)

// Score says how likely two farmers are one, from 0 to 1000, and why.
func Score(a, b store.Identity) (score int, why string) {
	alike := int(registry.Similarity(a.NameKey, b.NameKey)*1000 + 0.5)
	if alike < resembling {
		return 0, ""
	}
	reasons := []string{fmt.Sprintf("names %d %% alike", alike/10)}
	score = name * alike / 1000
	add := func(points int, reason string) {
		score += points
		reasons = append(reasons, reason)
	}
	switch {
	case a.BirthDate == b.BirthDate && strings.HasSuffix(a.BirthDate, "-01-01"):
		add(newYear, "both born on a 1 January")
	case a.BirthDate == b.BirthDate:
		add(sameDay, "born on the same day")
	case slices.Contains(slipsOf(a.BirthDate), b.BirthDate):
		add(slip, "birth dates differ by a slip")
	}
	if a.VillageKey == b.VillageKey {
		add(samePlace, "the same village")
	}
	switch {
	case a.NationalID == "" || b.NationalID == "" || a.NationalID == b.NationalID:
	case isSlip(a.NationalID, b.NationalID):
		add(slipOfID, "national ids differ by a slip")
	default:
		add(otherID, "other national ids")
	}
	return max(score, 0), strings.Join(reasons, ", ")
}

// isSlip says whether two texts differ in one character, or in two neighbours that are exchanged.
func isSlip(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	var at []int
	for i := range len(a) {
		if a[i] != b[i] {
			at = append(at, i)
		}
	}
	switch len(at) {
	case 1:
		return true
	case 2:
		i, j := at[0], at[1]
		return j == i+1 && a[i] == b[j] && a[j] == b[i]
	}
	return false
}

// slipsOf lists the days that somebody might have written for a date by a slip: with another digit, with two neighbours
// exchanged, or with the day for the month and the month for the day.
func slipsOf(date string) []string {
	if len(date) != len(time.DateOnly) {
		return nil
	}
	var days []string
	add := func(day string) {
		if _, err := time.Parse(time.DateOnly, day); err == nil && day != date {
			days = append(days, day)
		}
	}
	for i, c := range []byte(date) {
		if c == '-' {
			continue
		}
		for digit := '0'; digit <= '9'; digit++ {
			add(date[:i] + string(digit) + date[i+1:])
		}
		if i+1 < len(date) {
			add(date[:i] + date[i+1:i+2] + date[i:i+1] + date[i+2:])
		}
	}
	add(date[:5] + date[8:] + "-" + date[5:7])
	return days
}

// Run compares farmers with those around them, and returns how many pairs are new in the review queue. To run it again
// asks nothing twice.
func Run(ctx context.Context, s *store.Store, now time.Time, uids []string) (asked int, err error) {
	suspects, err := s.Identities(ctx, uids, nil, nil)
	if err != nil {
		return 0, err
	}
	for _, uid := range slices.Sorted(maps.Keys(suspects)) {
		f := suspects[uid]
		found := map[string]store.Pair{}
		err := s.Around(ctx, f, slipsOf(f.BirthDate), func(other store.Identity) {
			if other.UID == f.UID || settled(f) || settled(other) {
				return
			}
			if score, why := Score(f, other); score >= Threshold {
				found[other.UID] = pair(f, other, fmt.Sprintf("%d of 1000: %s", score, why))
			}
		})
		if err != nil {
			return asked, err
		}
		pairs := slices.SortedFunc(maps.Values(found), func(a, b store.Pair) int {
			return cmp.Or(strings.Compare(a.Farmer.UID, b.Farmer.UID), strings.Compare(a.Of.UID, b.Of.UID))
		})
		n, err := s.AskAbout(ctx, now, pairs)
		if asked += n; err != nil {
			return asked, err
		}
	}
	return asked, nil
}

// settled says whether somebody has marked the farmer as a duplicate already.
func settled(f store.Identity) bool { return f.Status == "duplicate" }

// pair puts two farmers in order: who was registered first is the one to be kept.
func pair(a, b store.Identity, why string) store.Pair {
	if cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.UID, b.UID)) < 0 {
		a, b = b, a
	}
	return store.Pair{Farmer: a, Of: b, Why: why}
}
