package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"tidemark/internal/foresee/load"
)

// trace is a load to be judged on. Coarse ones are averages of half an hour and more, without the bursts within.
type trace struct {
	name   string
	file   string
	coarse bool
	daily  bool // its shape is that of the day, without flash crowds
}

var traces = []trace{
	{name: "worldcup98", file: "worldcup98_60s"},
	{name: "nasa", file: "nasa_http_jul95_60s", daily: true},
	{name: "elb", file: "nab_elb_requests_300s"},
	{name: "azure-code", file: "azure_llm_code_1s"},
	{name: "appserver", file: "appserver_cluster_3600s", coarse: true, daily: true},
	{name: "nyc-taxi", file: "nab_nyc_taxi_1800s", coarse: true, daily: true},
}

// events is how many requests of the source a rate is made of at least.
const events = 400

// read takes a trace from the folder: smoothed, and in steps of a minute at most.
func (t trace) read(folder string) (*load.Series, error) {
	name := filepath.Join(folder, t.file+".csv.gz")
	packed, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read a trace: %w", err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	s, _, err := load.CSV(t.name, io.LimitReader(unpacked, 1<<28), 0)
	if err != nil {
		return nil, err
	}
	if len(s.Rates) < 3 {
		return nil, errors.New(name + " is too short")
	}
	s.Rates = smooth(s.Rates, events/s.Step.Seconds())
	switch {
	case s.Step > time.Minute:
		return finer(s, time.Minute), nil
	case s.Step < 15*time.Second:
		return s.Coarser(15 * time.Second), nil
	}
	return s, nil
}

// smooth averages each rate with its neighbours, as many on both sides as it takes to add up to enough.
func smooth(rates []float64, enough float64) []float64 {
	sums := make([]float64, len(rates)+1)
	for i, r := range rates {
		sums[i+1] = sums[i] + r
	}
	out := make([]float64, len(rates))
	for i := range rates {
		for w := 0; ; w++ {
			from, to := max(i-w, 0), min(i+w+1, len(rates))
			if sum := sums[to] - sums[from]; sum >= enough || to-from == len(rates) {
				out[i] = sum / float64(to-from)
				break
			}
		}
	}
	return out
}

// finer joins the middles of the intervals by straight lines.
func finer(s *load.Series, step time.Duration) *load.Series {
	out := &load.Series{Name: s.Name, Start: s.Start, Step: step, Rates: make([]float64, s.Duration()/step)}
	for i := range out.Rates {
		at := (float64(i)+0.5)*step.Seconds()/s.Step.Seconds() - 0.5
		at = min(max(at, 0), float64(len(s.Rates)-1))
		k := min(int(at), len(s.Rates)-2)
		out.Rates[i] = s.Rates[k] + (s.Rates[k+1]-s.Rates[k])*(at-float64(k))
	}
	return out
}

// split is the part to train on, the first week or third, and the rest to be judged on, of which at most `most` is taken. Both are scaled so that the
// 99.9th percentile of the whole keeps `busy` workers busy.
func split(s *load.Series, service time.Duration, busy float64, most time.Duration) (train, score *load.Series) {
	s = s.Scaled(busy / service.Seconds() / s.Peak(0.001))
	at := min(s.Duration()/3, 7*24*time.Hour)
	return s.Cut(max(at-most, 0), at), s.Cut(at, min(at+most, s.Duration()))
}
