package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
)

// MonthCSV writes the figures of a month, one a row: fleet, figure, value, unit, what is required, and the verdict. What is not known has an
// empty value.
func MonthCSV(out io.Writer, r *month.Report) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"month", "fleet", "figure", "value", "unit", "required", "verdict"}) // the writer keeps its first error
	value := func(v *float64) string {
		if v == nil {
			return ""
		}
		return decimal(*v)
	}
	hours := func(d fleet.Duration) string { return decimal(time.Duration(d).Hours()) }
	seconds := func(d fleet.Duration) string { return decimal(time.Duration(d).Seconds()) }
	for i := range r.Fleets {
		f := &r.Fleets[i]
		row := func(figure, value, unit, required string, v month.Verdict) {
			_ = w.Write([]string{r.Month, f.Name, figure, value, unit, required, string(v)})
		}
		a, s := &f.Availability, &f.Scaling
		row("availability", value(a.Percent), "percent", decimal(a.Required), a.Verdict)
		row("disturbed", hours(a.Down), "hours", hours(a.Allowed), "")
		row("machine_off", hours(a.Off), "hours", "", "")
		row("without_readings", hours(f.Coverage.Unknown), "hours", "", "")
		row("without_readings_share", decimal(f.Coverage.UnknownShare()), "percent", "", "")
		for _, l := range f.Levels {
			row(l.Name+"_kept", value(l.Kept), "percent", decimal(month.Adherence), l.Verdict)
			row(l.Name+"_worst", value(l.Worst), "seconds", seconds(l.Within), "")
			row(l.Name+"_not_judged", hours(l.Unknown), "hours", "", "")
		}
		for _, n := range []struct {
			name  string
			count int
		}{{"scale_ups", s.Ups}, {"scale_downs", s.Downs}, {"flaps", s.Flaps}, {"failed_actions", s.Failed}, {"changed_by_others", s.Outside}, {"orders", s.Orders}, {"cpu_high_after_scale_up", s.Hot}, {"slow_after_scale_up", s.Slow}, {"time_to_scale_count", s.Time.Count}, {"time_to_scale_within", s.Time.Within}} {
			row(n.name, strconv.Itoa(n.count), "count", "", "")
		}
		if k := &s.Time; k.Count > 0 {
			row("time_to_scale_median", seconds(k.Median), "seconds", "", "")
			row("time_to_scale_worst", seconds(k.Worst), "seconds", seconds(k.Target), k.Verdict)
			row("time_to_scale_breach_to_alarm", seconds(k.Mean.BreachToAlarm), "seconds, mean", "", "")
			row("time_to_scale_alarm_to_decision", seconds(k.Mean.AlarmToDecision), "seconds, mean", "", "")
			row("time_to_scale_decision_to_action", seconds(k.Mean.DecisionToAction), "seconds, mean", "", "")
			row("time_to_scale_action_to_serving", seconds(k.Mean.ActionToServing), "seconds, mean", "", "")
		}
		if z := f.Size; z != nil {
			row("workers_mean", decimal(z.Mean), "workers", "", "")
			row("workers_min", strconv.Itoa(z.Min), "workers", strconv.Itoa(f.Bounds.Min), "")
			row("workers_max", strconv.Itoa(z.Max), "workers", strconv.Itoa(f.Bounds.Max), "")
			row("at_maximum", hours(z.AtMaximum), "hours", "", "")
		}
		row("short_at_maximum", hours(f.Short.Time), "hours", "", "")
		bound, _ := f.DatabaseBound()
		row("database_bound", hours(bound), "hours", "", "")
		for _, b := range f.Blocked {
			row("blocked_"+map[bool]string{true: "out_", false: "in_"}[b.Out]+b.Code.String(), hours(b.Time), "hours", "", "")
		}
		if u := f.CPU; u != nil {
			row("cpu_mean", decimal(u.Mean), "percent", fmt.Sprintf("%g to %g", month.CPULow, month.CPUHigh), "")
			row("cpu_p95", decimal(u.P95), "percent", decimal(month.CPUPeak), "")
		}
		if m := f.Money; m != nil {
			row("worker_hours", decimal(m.WorkerHours), "hours", "", "")
			row("spent", decimal(m.Spent), m.Currency, "", "")
			row("projected", value(m.Projected), m.Currency, decimal(m.Budget), m.Verdict)
			row("next_month", value(m.Next), m.Currency, "", "")
		}
	}
	w.Flush()
	return w.Error()
}

// decimal writes a number with a point, and no more digits than it has.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// money writes an amount to a hundredth of a cent: sums of days must come to the month's.
func money(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

// focusColumns are those of FOCUS 1.2 that must be there, those beside them that say something here, and two of our own.
var focusColumns = []string{
	"BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
	"ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit",
	"ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit",
	"ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuPriceId",
	"SubAccountId", "SubAccountName", "Tags", "x_KnownHours", "x_UnknownHours",
}

// MonthFOCUS writes what each fleet cost on each local day in the columns of the FinOps Open Cost and Usage Specification (FOCUS 1.2), for
// tools that read bills. A day without any reading has no row: its cost is not known; of others x_UnknownHours says what is left out.
func MonthFOCUS(out io.Writer, r *month.Report, region string) error {
	w := csv.NewWriter(out)
	_ = w.Write(focusColumns) // the writer keeps its first error
	stamp := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
	for i := range r.Fleets {
		f := &r.Fleets[i]
		if f.Money == nil {
			continue
		}
		tags, err := json.Marshal(f.Tags)
		if err != nil {
			return err
		}
		for _, d := range f.Days {
			if d.Cost == nil {
				continue
			}
			cost, price, hours := money(*d.Cost), decimal(f.Money.WorkerHour), decimal(d.WorkerHours)
			row := map[string]string{
				"BilledCost": cost, "EffectiveCost": cost, "ListCost": cost, "ContractedCost": cost, "ListUnitPrice": price, "ContractedUnitPrice": price,
				"BillingAccountId": r.Instance, "BillingAccountName": r.Instance, "BillingAccountType": "Instance", "BillingCurrency": f.Money.Currency,
				"BillingPeriodStart": stamp(r.From), "BillingPeriodEnd": stamp(r.To), "ChargePeriodStart": stamp(d.From), "ChargePeriodEnd": stamp(d.To),
				"ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard",
				"ChargeDescription": fmt.Sprintf("Workers of %s on %s, of the %s that were seen", f.Name, d.Date, took(d.Known)),
				"ConsumedQuantity":  hours, "ConsumedUnit": "Hours", "PricingQuantity": hours, "PricingUnit": "Hours",
				"ProviderName": r.Instance, "PublisherName": r.Instance, "InvoiceIssuerName": r.Instance, "RegionId": region, "RegionName": region,
				"ResourceId": r.Instance + "/" + f.Name, "ResourceName": f.Name, "ResourceType": "Worker fleet", "ServiceCategory": "Compute", "ServiceName": "Workers", "ServiceSubcategory": "Other (Compute)",
				"SkuId": "worker-hour", "SkuPriceId": "worker-hour/" + f.Name, "SubAccountId": f.Name, "SubAccountName": f.Name, "Tags": string(tags),
				"x_KnownHours": decimal(time.Duration(d.Known).Hours()), "x_UnknownHours": decimal(time.Duration(d.Unknown).Hours()),
			}
			cells := make([]string, len(focusColumns))
			for n, name := range focusColumns {
				cells[n] = row[name]
			}
			_ = w.Write(cells)
		}
	}
	w.Flush()
	return w.Error()
}
