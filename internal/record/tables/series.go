package tables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// A tier is a table that keeps history by time, of many owners.
type tier struct {
	table  string
	owners string // the query that lists the owners
	of     string // the condition that selects the rows of owner ?1, as far as they may ever be deleted
}

const (
	allFleets = "SELECT id FROM fleets"
	allSeries = "SELECT id FROM series"
)

var (
	ticks     = tier{"ticks", allFleets, "fleet = ?1"}
	minutes   = tier{"minutes", allSeries, "series = ?1"}
	hours     = tier{"hours", allSeries, "series = ?1"}
	decisions = tier{"decisions", allFleets, "fleet = ?1 AND t < (SELECT max(t) FROM decisions WHERE fleet = ?1)"} // the latest is in force
	events    = tier{"events", "SELECT 0", "?1 = 0"}
)

// mine is the part of a query that selects owner ?1's rows.
func (t tier) mine() string { return t.table + " WHERE " + t.of }

// steps are the lengths of the points of a series, and the coarsest tier that can give them. A step of 0 is the raw readings.
// After the last, days are doubled.
var steps = []struct {
	length time.Duration
	from   tier
}{
	{0, ticks},
	{time.Second, ticks}, {5 * time.Second, ticks}, {15 * time.Second, ticks}, {time.Minute, ticks},
	{rollMinutes, minutes}, {15 * time.Minute, minutes}, {30 * time.Minute, minutes},
	{rollHours, hours}, {3 * time.Hour, hours}, {6 * time.Hour, hours}, {12 * time.Hour, hours}, {day, hours},
}

const (
	rollMinutes   = 5 * time.Minute
	rollHours     = time.Hour
	defaultPoints = 1000
)

// bucket is one step of one series, and rolls are the roll-ups of many.
type bucket struct{ series, t int64 }
type rolls map[bucket]*roll

func (m rolls) at(series, t int64) *roll {
	a := m[bucket{series, t}]
	if a == nil {
		a = new(roll)
		m[bucket{series, t}] = a
	}
	return a
}

// roll is a roll-up in the making.
type roll struct {
	n, missing     int64
	low, high, sum float64
}

func (a *roll) add(r fleet.Reading) {
	if r.Quality == fleet.Fresh {
		a.merge(roll{n: 1, low: r.Value, high: r.Value, sum: r.Value})
	} else {
		a.missing++
	}
}

func (a *roll) merge(b roll) {
	switch {
	case a.n == 0:
		a.low, a.high = b.low, b.high
	case b.n > 0:
		a.low, a.high = min(a.low, b.low), max(a.high, b.high)
	}
	a.n, a.missing, a.sum = a.n+b.n, a.missing+b.missing, a.sum+b.sum
}

func (a *roll) point(at int64) record.Point {
	p := record.Point{Time: fromNanos(at), N: int(a.n), Missing: int(a.missing), Min: math.NaN(), Max: math.NaN(), Mean: math.NaN()}
	if a.n > 0 {
		p.Min, p.Max = a.low, a.high
		p.Mean = min(max(a.sum/float64(a.n), a.low), a.high) // rounding may carry it out
	}
	return p
}

// floor is the start of the step that t (not negative) lies in.
func floor(t int64, step time.Duration) int64 { return t - t%int64(step) }

// Series answers q in time order. A point stands for the readings from its Time up to the next step; with steps, the first and the last
// point are whole, so they may reach beyond Since and Until. A point with N == 0 has no values: they are NaN. Steps without
// any reading have no point.
func (r *Reader) Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error) {
	ctx, cancel := r.patient(ctx)
	defer cancel()
	v, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer v.end()
	points, err := v.series(ctx, q)
	return points, r.Explain(err)
}

// span is what one question about one series comes down to.
type span struct {
	fleet, series  int64
	folded         int64
	tail           sql.NullInt64
	since, until   int64 // within what there is
	lo, hi         int64 // the same, in whole steps
	step           time.Duration
	from           tier
	points         []record.Point
	rolls          rolls
	raw            bool
	numberedBeyond int64 // only ticks with a higher number
}

func (v view) series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error) {
	s := span{rolls: rolls{}}
	const who = `SELECT f.id, f.folded, f.tail, s.id FROM fleets f JOIN series s ON s.fleet = f.id WHERE f.name = ? AND s.signal = ?`
	err := v.row(ctx, who, q.Fleet, q.Signal).Scan(&s.fleet, &s.folded, &s.tail, &s.series)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.since, s.until = 0, math.MaxInt64
	if !q.Since.IsZero() {
		s.since = max(clampNanos(q.Since), 0)
	}
	if !q.Until.IsZero() {
		s.until = clampNanos(q.Until)
	}
	points := q.MaxPoints
	if points <= 0 {
		points = defaultPoints
	}
	if err := v.clip(ctx, &s); err != nil || s.since >= s.until {
		return nil, err
	}
	if err := v.choose(ctx, &s, points); err != nil {
		return nil, err
	}
	if err := v.collect(ctx, &s); err != nil {
		return nil, err
	}
	for at, a := range s.rolls {
		s.points = append(s.points, a.point(at.t))
	}
	if !s.raw {
		slices.SortFunc(s.points, func(a, b record.Point) int { return a.Time.Compare(b.Time) })
	}
	return s.points, nil
}

// clip moves the ends of the span into what there is of the series.
func (v view) clip(ctx context.Context, s *span) error {
	first, last := int64(math.MaxInt64), int64(-1)
	for _, t := range []struct {
		tier
		id   int64
		long time.Duration
	}{{ticks, s.fleet, 1}, {minutes, s.series, rollMinutes}, {hours, s.series, rollHours}} {
		var a, b sql.NullInt64
		query := fmt.Sprintf("SELECT (SELECT min(t) FROM %[1]s), (SELECT max(t) FROM %[1]s)", t.mine())
		if err := v.row(ctx, query, t.id).Scan(&a, &b); err != nil {
			return err
		}
		if a.Valid {
			first, last = min(first, a.Int64), max(last, b.Int64+int64(t.long)-1)
		}
	}
	s.since, s.until = max(s.since, first), min(s.until, last+1)
	return nil
}

// choose finds the finest step that is still kept from the span's start and gives at most so many points.
func (v view) choose(ctx context.Context, s *span, points int) error {
	kept := map[string]int64{}
	for _, t := range []tier{ticks, minutes, hours} {
		var since int64
		err := v.row(ctx, "SELECT since FROM kept WHERE tier = ?", t.table).Scan(&since)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		kept[t.table] = since
	}
	fits := func(step time.Duration) bool {
		s.lo, s.hi = floor(s.since, step), floor(s.until-1, step)+int64(step)
		return (s.hi-s.lo)/int64(step) <= int64(points)
	}
	for _, c := range steps {
		s.step, s.from = c.length, c.from
		if c.length == 0 {
			var n int
			const query = "SELECT count(*) FROM (SELECT 1 FROM ticks WHERE fleet = ? AND t >= ? AND t < ? LIMIT ?) AS few"
			if err := v.row(ctx, query, s.fleet, s.since, s.until, points+1).Scan(&n); err != nil {
				return err
			}
			s.lo, s.hi = s.since, s.until
			s.raw = n <= points && kept[ticks.table] <= s.lo
			if s.raw {
				return nil
			}
		} else if fits(c.length) && (c.from == hours || kept[c.from.table] <= s.lo) { // there is nothing beyond the hours
			return nil
		}
	}
	for !fits(s.step) && s.step < math.MaxInt64/4 {
		s.step *= 2
	}
	return nil
}

// collect gathers the points from the tier and, when that is a roll-up, from the ticks that are not in it yet.
func (v view) collect(ctx context.Context, s *span) error {
	if s.from == ticks {
		return v.collectTicks(ctx, s)
	}
	if err := v.collectRolls(ctx, s); err != nil || !s.tail.Valid {
		return err
	}
	s.numberedBeyond = s.folded
	s.lo = max(s.lo, s.tail.Int64)
	return v.collectTicks(ctx, s)
}

func (v view) collectRolls(ctx context.Context, s *span) error {
	// The store adds up: a year of hours is 8,760 rows of each series, and 365 points.
	query := fmt.Sprintf(`SELECT t - t %% %d AS step, CAST(sum(n) AS BIGINT), CAST(sum(missing) AS BIGINT), coalesce(min(low), 0), coalesce(max(high), 0), sum(sum)
		FROM %s WHERE series = ? AND t >= ? AND t < ? GROUP BY step`, s.step, s.from.table)
	found, err := v.query(ctx, query, s.series, s.lo, s.hi)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		var t int64
		var a roll
		if err := found.Scan(&t, &a.n, &a.missing, &a.low, &a.high, &a.sum); err != nil {
			return err
		}
		s.rolls.at(s.series, t).merge(a)
	}
	return found.Err()
}

func (v view) collectTicks(ctx context.Context, s *span) error {
	found, err := v.query(ctx, "SELECT t, readings FROM ticks WHERE fleet = ? AND t >= ? AND t < ? AND n > ? ORDER BY t, n", s.fleet, s.lo, s.hi, s.numberedBeyond)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	var blob sql.RawBytes
	for found.Next() {
		var t int64
		if err := found.Scan(&t, &blob); err != nil {
			return err
		}
		if err := s.take(t, blob); err != nil {
			return err
		}
	}
	return found.Err()
}

// take adds the series' readings of one tick.
func (s *span) take(t int64, blob []byte) error {
	for len(blob) > 0 {
		id, r, rest, err := nextReading(blob, fromNanos(t))
		if err != nil {
			return err
		}
		blob = rest
		switch {
		case id != s.series:
		case s.raw:
			var a roll
			a.add(r)
			s.points = append(s.points, a.point(t))
		default:
			s.rolls.at(s.series, floor(t, s.step)).add(r)
		}
	}
	return nil
}
