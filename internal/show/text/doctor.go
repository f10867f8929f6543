package text

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"tidemark/internal/doctor"
)

// Doctor writes what to mend first, then what holds, then what could not be looked at.
func Doctor(w io.Writer, v View, r *doctor.Report) {
	fmt.Fprintf(w, "%s  %s\n", v.bold("looked at"), strings.Join(r.Read, ", "))
	for _, f := range r.Findings {
		head := fmt.Sprintf("%-8s %s", f.Severity, f.What)
		if f.Severity == doctor.Problem {
			head = v.Bad(head)
		} else {
			head = v.bold(head)
		}
		fmt.Fprintf(w, "\n%s\n", head)
		for _, where := range f.Where {
			fmt.Fprintln(w, "         "+where.String())
		}
		if f.Arithmetic != "" {
			fmt.Fprintln(w, "         "+f.Arithmetic)
		}
		fmt.Fprintln(w, "         "+v.dim("mend: ")+f.Fix)
	}
	if len(r.Held) > 0 {
		fmt.Fprintf(w, "\n%s\n", v.bold("in order"))
		for _, c := range r.Held {
			fmt.Fprintf(w, "  %s: %s\n", c.Check, c.Note)
		}
	}
	if len(r.NotMade) > 0 {
		fmt.Fprintf(w, "\n%s\n", v.bold("not looked at"))
	}
	for _, why := range whys(r.NotMade) {
		var checks []string
		for _, c := range r.NotMade {
			if c.Note == why {
				checks = append(checks, c.Check)
			}
		}
		fmt.Fprintf(w, "  %s\n    %s\n", why, v.dim(strings.Join(checks, ", ")))
	}
}

// whys lists the reasons, each once.
func whys(checks []doctor.Check) (out []string) {
	for _, c := range checks {
		if !slices.Contains(out, c.Note) {
			out = append(out, c.Note)
		}
	}
	return out
}
