package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The parts of one question. Prometheus tells a value, but neither how old its sample is nor how many there were; each part is
// a series of its own, told apart by the label.
const (
	label = "tidemark_part"
	value = "value"
	age   = "age"
	count = "count"
)

// question is the PromQL that returns the parts of a query: its value and its sample's age, or with a window the quantile q of the
// values at each step, and their number.
func question(query string, q float64, window, step time.Duration) string {
	of := func(part, expr string) string {
		return fmt.Sprintf("label_replace(%s, %q, %q, \"\", \"\")", expr, label, part)
	}
	query = "\n" + query + "\n" // a line of its own: it may end with a comment, and columns in errors are its own
	sampleAge := of(age, "time() - timestamp("+query+")")
	if step == 0 {
		return of(value, query) + " or " + sampleAge
	}
	steps := fmt.Sprintf("(%s)[%s:%s]", query, seconds(window), seconds(step))
	return strings.Join([]string{
		of(value, fmt.Sprintf("quantile_over_time(%v, %s)", q, steps)), sampleAge, of(count, "count_over_time("+steps+")"),
	}, " or ")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int64(d.Seconds())) }

// response is the server's JSON; see https://prometheus.io/docs/prometheus/latest/querying/api/.
type response struct {
	Status   string   `json:"status"`
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
	Data     struct {
		Type   string   `json:"resultType"`
		Result []series `json:"result"`
	} `json:"data"`
}

type series struct {
	Labels map[string]string  `json:"metric"`
	Value  [2]json.RawMessage `json:"value"` // a time, and a number in quotes
}

// parts are what a server said: of each part its figure. Those of a series that has ended are not all there.
func parts(body []byte) (map[string]float64, error) {
	var r response
	err := json.Unmarshal(body, &r)
	switch {
	case err == nil && r.Status == "error":
		return nil, fmt.Errorf("the server refuses the query, which must return an instant vector: %s", r.Error)
	case err != nil || r.Status != "success" || r.Data.Type != "vector":
		return nil, errForm
	case len(r.Warnings) > 0: // of data that it could not get at
		return nil, fmt.Errorf("the server warns that its answer may not be complete: %s", r.Warnings[0])
	}
	names := map[string]bool{}
	for _, s := range r.Data.Result {
		if s.Labels[label] == value {
			names[s.name()] = true
		}
	}
	if len(names) > 1 {
		all, more := slices.Sorted(maps.Keys(names)), ""
		if len(all) > 3 {
			all, more = all[:3], ", ..."
		}
		return nil, fmt.Errorf("the query returns %d series: %s%s; choose one by its labels, or add them up by sum()", len(names), strings.Join(all, ", "), more)
	}
	out := map[string]float64{}
	for _, s := range r.Data.Result {
		if out[s.Labels[label]], err = s.number(); err != nil {
			return nil, fmt.Errorf("%s is no figure: %w", s.name(), err)
		}
	}
	return out, nil
}

// errForm: it answers, and in another language.
var errForm = errors.New("the answer is not that of a Prometheus server: is the address right?")

// number reads a sample's value, which is written as text since JSON has no NaN.
func (s series) number() (float64, error) {
	var text string
	if err := json.Unmarshal(s.Value[1], &text); err != nil {
		return 0, errors.New("it has no value")
	}
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q", text)
	case math.IsNaN(v):
		return 0, errors.New("it is NaN (0/0, for one)")
	case math.IsInf(v, 0):
		return 0, fmt.Errorf("it is %v", v)
	}
	return v, nil
}

// name writes a series as PromQL does, without our own label.
func (s series) name() string {
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		if k != "__name__" && k != label {
			labels = append(labels, fmt.Sprintf("%s=%q", k, s.Labels[k]))
		}
	}
	return s.Labels["__name__"] + "{" + strings.Join(labels, ", ") + "}"
}
