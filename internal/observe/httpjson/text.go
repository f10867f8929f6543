package httpjson

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// series is one sample of a metric.
type series struct {
	name  string // with its labels, as it stands in the page
	value float64
	at    time.Time // by the page; zero when it does not say
}

// kind is what the page's TYPE line says of a metric.
type kind string

const (
	counter kind = "counter"
	gauge   kind = "gauge"
	unknown kind = ""
)

// metrics are those of a page, by name; a histogram or a summary is one. They are read by several sources at once.
type metrics map[string]*dto.MetricFamily

// parseText reads a page in Prometheus' text format (version 0.0.4).
func parseText(page []byte) (metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, fmt.Errorf("the page is not in Prometheus' text format: %w", err)
	}
	return families, nil
}

// find returns the series of a metric that have all the labels, in the order of their names.
func (m metrics) find(metric string, labels map[string]string) ([]series, kind, error) {
	part := func(suffix string) string { // of a histogram or a summary
		name, ok := strings.CutSuffix(metric, suffix)
		if !ok {
			return ""
		}
		return name
	}
	for _, name := range []string{metric, part("_sum"), part("_count"), part("_bucket")} {
		family := m[name]
		if family == nil {
			continue
		}
		all, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{}, chosen(family, labels))
		if err != nil {
			return nil, unknown, fmt.Errorf("read the metric %s: %w", name, err)
		}
		var out []series
		for _, s := range all {
			if string(s.Metric[model.MetricNameLabel]) == metric && has(s.Metric, labels) {
				out = append(out, series{name: s.Metric.String(), value: float64(s.Value), at: stamp(s.Timestamp)})
			}
		}
		if name == metric && family.GetType() == dto.MetricType_HISTOGRAM {
			return nil, unknown, fmt.Errorf("%s is a histogram: write %s_count, %s_sum or %s_bucket", metric, metric, metric, metric)
		}
		slices.SortFunc(out, func(a, b series) int { return strings.Compare(a.name, b.name) })
		return out, kindOf(family.GetType().String(), name != metric), nil
	}
	return nil, unknown, fmt.Errorf("the page has no metric %s", metric)
}

// chosen is the part of a family that can have all the labels: of a large one it is little. The labels of buckets and quantiles are seen in
// the samples only.
func chosen(family *dto.MetricFamily, labels map[string]string) *dto.MetricFamily {
	out := &dto.MetricFamily{Name: family.Name, Type: family.Type}
	for _, m := range family.Metric {
		fits := 0
		for name, value := range labels {
			at := slices.IndexFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
			if at < 0 && (value == "" || name == model.BucketLabel || name == model.QuantileLabel) || at >= 0 && m.Label[at].GetValue() == value {
				fits++
			}
		}
		if fits == len(labels) {
			out.Metric = append(out.Metric, m)
		}
	}
	return out
}

// kindOf: the parts of a histogram or a summary only rise.
func kindOf(written string, part bool) kind {
	switch {
	case part || written == "COUNTER":
		return counter
	case written == "GAUGE", written == "SUMMARY": // a summary's own lines are its quantiles
		return gauge
	}
	return unknown
}

func has(m model.Metric, labels map[string]string) bool {
	for name, value := range labels {
		if string(m[model.LabelName(name)]) != value {
			return false
		}
	}
	return true
}

func stamp(t model.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

// check refuses what cannot be a figure: no series, more than are wanted, or one without a number.
func check(all []series, sum bool) error {
	switch {
	case len(all) == 0:
		return errors.New("no series of the metric has these labels")
	case len(all) > 1 && !sum:
		names := make([]string, 0, 3)
		for _, s := range all[:min(len(all), 3)] {
			names = append(names, s.name)
		}
		more := ""
		if len(all) > len(names) {
			more = ", ..."
		}
		return fmt.Errorf("%d series match: %s%s; choose one by labels, or write sum: true", len(all), strings.Join(names, ", "), more)
	}
	for _, s := range all {
		if math.IsNaN(s.value) || math.IsInf(s.value, 0) {
			return fmt.Errorf("%s is %v, which is no figure", s.name, s.value)
		}
	}
	return nil
}
