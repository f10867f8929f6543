package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/config"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/month"
	"tidemark/internal/foresee/month/monthtest"
	"tidemark/internal/foresee/tune"
)

var update = flag.Bool("update", false, "write the golden files anew; read them before they are kept")

// march is a working month with everything in it.
func march(t *testing.T, change func(*config.Config)) *month.Report {
	t.Helper()
	cfg := monthtest.Config("Pacific/Rarotonga")
	if change != nil {
		change(cfg)
	}
	r, err := month.Make(t.Context(), monthtest.Working(cfg, "2027-03"), cfg, "2027-03", time.Date(2027, 4, 1, 20, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMonthReads holds what a person reads to the letter.
func TestMonthReads(t *testing.T) {
	var got bytes.Buffer
	if err := Month(march(t, nil), "tidemark.yaml").Markdown(&got); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/month.md"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestMonthPage: one file, no script, nothing fetched, and nothing that somebody wrote is read as HTML or Markdown.
func TestMonthPage(t *testing.T) {
	const evil = `<script>alert(1)</script>|*x*`
	r := march(t, func(c *config.Config) {
		c.Instance.Name = evil
		c.Fleets[0].Tags["owner"] = evil
	})
	p := Month(r, evil)
	var html, markdown bytes.Buffer
	if err := p.Write(&html); err != nil {
		t.Fatal(err)
	}
	if err := p.Markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	if bad := regexp.MustCompile(`(?i)<script|<link|<img|src=|href=|@import|url\(`).FindString(html.String()); bad != "" {
		t.Errorf("the page has %q in it", bad)
	}
	if !strings.Contains(html.String(), "&lt;script&gt;alert(1)") {
		t.Error("the instance's name is not shown")
	}
	for line := range strings.Lines(markdown.String()) {
		if strings.Contains(line, "<script") || strings.Contains(line, "*x*") && !strings.Contains(line, `\*x\*`) {
			t.Errorf("in the Markdown: %s", line)
		}
	}
	if n := html.Len(); n > 200<<10 {
		t.Errorf("the page has %d KB", n>>10)
	}
}

// TestSummaryOfNothing: where nothing was measured nothing is claimed.
func TestSummaryOfNothing(t *testing.T) {
	cfg := monthtest.Config("UTC")
	r, err := month.Make(t.Context(), &monthtest.Journal{}, cfg, "2027-03", time.Date(2027, 4, 2, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(Summary(r), "\n")
	for _, want := range []string{"Whether the service was available is not known", "Not measured: answers to phones", "For 100 % of the month there are no readings"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said:\n%s", want, all)
		}
	}
	if strings.Contains(all, "0.00 %") || strings.Contains(all, "in time, for") {
		t.Errorf("something is claimed:\n%s", all)
	}
	var page bytes.Buffer
	if err := Month(r, "").Write(&page); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page.String(), "NaN") {
		t.Error("the page has a NaN in it")
	}
}

// TestMonthOfSeveral names the fleets where there are several.
func TestMonthOfSeveral(t *testing.T) {
	r := march(t, func(c *config.Config) {
		other := c.Fleets[0]
		other.Name, other.Budget = "portal", config.Budget{}
		c.Fleets = append(c.Fleets, other)
	})
	var text bytes.Buffer
	if err := Month(r, "t.yaml").Markdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"odoo-workers: The number of workers", "portal: The number of workers was changed never", "write safeguards.budget"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not said", want)
		}
	}
}

func rows(t *testing.T, write func(*bytes.Buffer) error) (header []string, out []map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range all[1:] {
		row := map[string]string{}
		for i, v := range line {
			row[all[0][i]] = v
		}
		out = append(out, row)
	}
	return all[0], out
}

// TestFOCUS: the columns that FOCUS 1.2 requires, a row for each local day that is known, and the month's cost in all.
func TestFOCUS(t *testing.T) {
	r := march(t, nil)
	header, days := rows(t, func(b *bytes.Buffer) error { return MonthFOCUS(b, r, "Rarotonga") })
	for _, must := range strings.Fields(`BilledCost BillingAccountId BillingAccountName BillingAccountType BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory
		ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName ListCost PricingQuantity PricingUnit ProviderName
		PublisherName ServiceCategory ServiceName`) {
		if !slices.Contains(header, must) {
			t.Errorf("the column %s is missing", must)
		}
	}
	total, unknown := 0.0, 0.0
	for i, d := range days {
		cost, err := strconv.ParseFloat(d["BilledCost"], 64)
		if err != nil {
			t.Fatal(err)
		}
		hours, _ := strconv.ParseFloat(d["x_UnknownHours"], 64)
		total, unknown = total+cost, unknown+hours
		var tags map[string]string
		if err := json.Unmarshal([]byte(d["Tags"]), &tags); err != nil || tags["owner"] != "moa-ict" {
			t.Errorf("tags: %s (%v)", d["Tags"], err)
		}
		if i > 0 && d["ChargePeriodStart"] != days[i-1]["ChargePeriodEnd"] {
			t.Errorf("day %d begins at %s, and the one before ends at %s", i, d["ChargePeriodStart"], days[i-1]["ChargePeriodEnd"])
		}
	}
	if len(days) != 31 || days[0]["ChargePeriodStart"] != "2027-03-01T10:00:00Z" || days[0]["BillingPeriodEnd"] != "2027-04-01T10:00:00Z" {
		t.Errorf("%d days, the first %v", len(days), days[0])
	}
	if math.Abs(total-r.Money.Spent) > 1e-3 || math.Abs(unknown-6.25) > 1e-9 {
		t.Errorf("the days come to %v of %v, and leave out %v hours", total, r.Money.Spent, unknown)
	}
}

// TestMonthCSV: what is not known is empty, not 0.
func TestMonthCSV(t *testing.T) {
	_, figures := rows(t, func(b *bytes.Buffer) error { return MonthCSV(b, march(t, nil)) })
	by := map[string]map[string]string{}
	for _, f := range figures {
		by[f["figure"]] = f
	}
	for figure, want := range map[string][3]string{
		"pages_kept": {"", "percent", "unknown"}, "scale_ups": {"58", "count", ""}, "time_to_scale_worst": {"84", "seconds", "met"}, "database_bound": {"0.8333333333333334", "hours", ""},
	} {
		if f := by[figure]; f["value"] != want[0] || f["unit"] != want[1] || f["verdict"] != want[2] {
			t.Errorf("%s: %v", figure, f)
		}
	}
}

// What 'tidemark tune' last recommended stands in the month's report, as long as it is of use; what cannot be read keeps nobody from it.
func TestMonthHasWhatTuneRecommends(t *testing.T) {
	figures := func(cost, violations float64) *tune.Figures {
		return &tune.Figures{Cost: foresee.Figure{Mean: cost}, Violations: foresee.Figure{Mean: violations}}
	}
	outcome := tune.Outcome{Made: time.Date(2027, 3, 20, 2, 0, 0, 0, time.UTC), Result: &tune.Result{
		File: "tidemark.yaml", Fleet: monthtest.Config("Pacific/Rarotonga").Fleets[0].Name, Tried: 412, Present: tune.Policy{HoldOut: figures(1.52, 2.25)},
		Recommended: &tune.Policy{HoldOut: figures(1.18, 0.05), Changes: []tune.Change{{Line: 31, What: "threshold of cpu, to scale out", From: "70%", To: "62%", Reason: "minutes that miss the objective"}}},
		Diff:        "-          - {signal: cpu, threshold: 70%}\n+          - {signal: cpu, threshold: 62%}\n",
	}}
	page := func(o *tune.Outcome, text string) (*month.Report, string) {
		t.Helper()
		dir := t.TempDir()
		reports := filepath.Join(dir, "reports")
		if err := os.Mkdir(reports, 0o750); err != nil {
			t.Fatal(err)
		}
		if o != nil {
			if err := tune.Save(reports, *o); err != nil {
				t.Fatal(err)
			}
		}
		if text != "" {
			if err := os.WriteFile(filepath.Join(reports, "tune-"+outcome.Fleet+".json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := march(t, func(c *config.Config) { c.StateDir = dir })
		var b bytes.Buffer
		if err := Month(r, "tidemark.yaml").Markdown(&b); err != nil {
			t.Fatal(err)
		}
		return r, b.String()
	}
	_, got := page(&outcome, "")
	for _, want := range []string{"tried 412 policies for " + outcome.Fleet + " on 19 March 2027", "1.52 times the least that could be, and misses the objective in 2.25 %", "1.18 times", "| threshold of cpu, to scale out | 70%  | 62% |", "    +          - {signal: cpu, threshold: 62%}\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	none := outcome
	same := *outcome.Result
	same.Recommended, same.Diff = nil, ""
	none.Result = &same
	if _, got := page(&none, ""); !strings.Contains(got, "None was better than the present one, which costs 1.52 times") {
		t.Error("that nothing is recommended is not said")
	}
	for name, made := range map[string]time.Time{"after the month": time.Date(2027, 4, 2, 0, 0, 0, 0, time.UTC), "long before": time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)} {
		o := outcome
		o.Made = made
		if r, got := page(&o, ""); len(r.Tuned) > 0 || strings.Contains(got, "412") {
			t.Errorf("what was recommended %s stands in it", name)
		}
	}
	stopped := same
	stopped.Interrupted = true
	if r, _ := page(&tune.Outcome{Made: outcome.Made, Result: &stopped}, ""); len(r.Tuned) > 0 {
		t.Error("an outcome that was interrupted is kept")
	}
	if _, got := page(nil, "{}"); !strings.Contains(got, "what was recommended last is not known: read ") {
		t.Error("a file that is none keeps silent")
	}
}
