package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/internal/config"
)

var spoilable = regexp.MustCompile(`\b(?:min|max|threshold|scale_change|evaluation_periods|datapoints_to_alarm|statistic|window|min_samples|period|operator|mode|tick|environment|scale_up|scale_down|up|down|max_scaling_rate|action_timeout|raw|hours|optional|time_zone|signal): +("[^"]*"|[^\s,}{\["'&*#](?:[^,}#\n]*[^\s,}#\n])?)`)

// TestPositions spoils one value of a good file, wherever it stands and whatever stands before it: a problem must be at its
// line and column.
func TestPositions(t *testing.T) {
	good := []string{string(read(t, "testdata/good/cook-islands.yaml")), string(read(t, "testdata/good/everything.yaml"))}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(good).Draw(t, "file")
		lines := strings.Split(text, "\n")
		for range rapid.IntRange(0, 5).Draw(t, "comments") {
			at := rapid.IntRange(0, len(lines)-1).Draw(t, "before")
			lines[at] = rapid.SampledFrom([]string{"# größer\n", "\n", "  # <- ↓\n"}).Draw(t, "comment") + lines[at]
		}
		text = strings.Join(lines, "\n")
		if rapid.Bool().Draw(t, "renamed") {
			text = strings.Replace(text, "{signal: cpu,", "{signal:   'cpu',", 1) // moves what follows
		}
		hits := spoilable.FindAllStringSubmatchIndex(text, -1)
		hit := rapid.SampledFrom(hits).Draw(t, "value")
		spoiled := text[:hit[2]] + "'?'" + text[hit[3]:]
		line := strings.Count(text[:hit[2]], "\n") + 1
		column := utf8.RuneCountInString(text[strings.LastIndexByte(text[:hit[2]], '\n')+1:hit[2]]) + 1
		if rapid.Bool().Draw(t, "windows") {
			spoiled = "\ufeff" + strings.ReplaceAll(spoiled, "\n", "\r\n")
		}
		cfg, problems := config.Parse("x.yaml", []byte(spoiled), catalog(), environ)
		if cfg != nil {
			t.Fatalf("%s was taken", text[hit[0]:hit[1]])
		}
		found := false
		for _, p := range problems {
			checkPlaceRapid(t, spoiled, p)
			found = found || p.Severity == config.Error && p.Line == line && p.Column == column
		}
		if !found {
			t.Fatalf("%s at %d:%d:\n%v", text[hit[0]:hit[1]], line, column, problems)
		}
	})
}

func checkPlaceRapid(t *rapid.T, data string, p config.Problem) {
	lines := strings.Split(strings.TrimPrefix(data, "\ufeff"), "\n")
	if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > utf8.RuneCountInString(lines[p.Line-1])+1 {
		t.Fatalf("%d:%d is outside: %s", p.Line, p.Column, p.Message)
	}
}

// TestWrittenIsResolved draws a rule and its safeguards, writes them, and expects to read the same.
func TestWrittenIsResolved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(1, 50).Draw(t, "min")
		most := least + rapid.IntRange(0, 50).Draw(t, "span")
		n := rapid.IntRange(1, 10).Draw(t, "n")
		m := rapid.IntRange(1, n).Draw(t, "m")
		change := rapid.IntRange(1, 5).Draw(t, "change")
		threshold := rapid.Float64Range(1, 100).Draw(t, "threshold")
		up := rapid.IntRange(0, 86400).Draw(t, "up")
		text := fmt.Sprintf(`fleets:
  - name: a
    target: {process: {}}
    bounds: {min: %d, max: %d}
    signals: {cpu: {procfs: }}
    policies: [{id: p, rules: [{signal: cpu, operator: ">", threshold: %g, scale_change: %+d, evaluation_periods: %d, datapoints_to_alarm: %d}]}]
    safeguards: {cooldown: {scale_up: %ds}, step: {up: %d}}
`, least, most, threshold, change, n, m, up, change)
		cfg, problems := config.Parse("x.yaml", []byte(text), catalog(), environ)
		if cfg == nil {
			t.Fatal(problems)
		}
		p := cfg.Fleets[0].Policy
		r := p.Policies[0].Rules[0]
		if p.Bounds.Min != least || p.Bounds.Max != most || r.N != n || r.M != m || r.Change != change || r.Threshold != threshold || int(p.CooldownUp.Seconds()) != up || p.StepUp != change {
			t.Fatalf("%+v\n%s", p, text)
		}
		again, problems := config.Parse("x.yaml", []byte(config.Effective(cfg)), catalog(), environ)
		if diff := cmp.Diff(cfg, again, sameConfig()); diff != "" {
			t.Fatalf("%s\n%v", diff, problems)
		}
	})
}

// FuzzParse: nothing panics, each problem stands within the file, and what is read can be written and read again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 10_000 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, problems := config.Parse("x.yaml", data, catalog(), environ)
		for _, p := range problems {
			checkPlace(t, data, p)
		}
		_ = problems.Error()
		if (cfg == nil) != problems.Failed() {
			t.Fatalf("config given: %v; %v", cfg != nil, problems)
		}
		if cfg == nil {
			return
		}
		text := config.Effective(cfg)
		if strings.Contains(text, "***") {
			return // a secret that is written out is not written again
		}
		again, problems := config.Parse("x.yaml", []byte(text), catalog(), environ)
		if again == nil {
			t.Fatalf("%v\n%s", problems, text)
		}
		if diff := cmp.Diff(cfg, again, sameConfig()); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
	})
}
