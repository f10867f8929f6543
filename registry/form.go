package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Form is one version of a questionnaire. A version is never changed: an edited form is the next version, and
// submissions keep the version that they answer.
type Form struct {
	ID        string     `json:"id"` // such as crop-survey
	Version   int        `json:"version"`
	Title     string     `json:"title"`
	Questions []Question `json:"questions"`
}

// Question is one field of a form.
type Question struct {
	Name     string   `json:"name"` // a-z, digits and _
	Label    string   `json:"label"`
	Type     string   `json:"type"` // text, number, choice, date or yes_no
	Required bool     `json:"required,omitempty"`
	Choices  []string `json:"choices,omitempty"`
	Max      float64  `json:"max,omitempty"`
}

// questionKinds says which kind of value answers each type of question. A yes_no is a choice of two.
var questionKinds = map[string]Kind{"text": Text, "number": Number, "choice": Choice, "date": Date, "yes_no": Choice}

// Check returns what is wrong with a form.
func (f *Form) Check() Faults {
	var faults Faults
	wrong := func(field, format string, args ...any) {
		faults = append(faults, Fault{field, fmt.Sprintf(format, args...)})
	}
	if !isSlug(f.ID, "-") {
		wrong("id", "must be up to 60 letters a-z, digits and hyphens")
	}
	if f.Version < 1 {
		wrong("version", "must be 1 or more")
	}
	if f.Title == "" || len(f.Title) > maxText {
		wrong("title", "must be 1 to %d bytes of text", maxText)
	}
	if n := len(f.Questions); n == 0 || n > 200 {
		wrong("questions", "must be 1 to 200")
	}
	seen := map[string]bool{}
	for i, q := range f.Questions {
		field := fmt.Sprintf("questions/%d", i)
		switch _, known := questionKinds[q.Type]; {
		case !isSlug(q.Name, "_") || seen[q.Name]:
			wrong(field, "needs a name of its own: letters a-z, digits and _")
		case !known:
			wrong(field, "type must be text, number, choice, date or yes_no")
		case q.Type == "choice" && len(q.Choices) == 0:
			wrong(field, "a choice needs choices")
		}
		seen[q.Name] = true
	}
	return faults
}

// CheckAnswers returns what is wrong with answers to the form.
func (f *Form) CheckAnswers(answers JSON, today time.Time) Faults {
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(answers), &given); err != nil {
		return Faults{{"answers", "must be a JSON object"}}
	}
	var faults Faults
	known := map[string]bool{}
	for _, q := range f.Questions {
		known[q.Name] = true
		field := Field{Name: q.Name, Kind: questionKinds[q.Type], Choices: q.Choices, Max: q.Max}
		if q.Type == "yes_no" {
			field.Choices = []string{"yes", "no"}
		}
		var value any
		wrong := ""
		if raw, ok := given[q.Name]; ok {
			value, wrong = field.decode(raw, today)
		}
		switch {
		case wrong != "":
			faults = append(faults, Fault{"answers/" + q.Name, wrong})
		case value == nil && q.Required:
			faults = append(faults, Fault{"answers/" + q.Name, "is required"})
		}
	}
	for name := range given {
		if !known[name] {
			faults = append(faults, Fault{"answers", fmt.Sprintf("the form has no question %q", clip(name))})
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return strings.Compare(a.Field+a.Detail, b.Field+b.Detail) })
	return faults
}

func isSlug(s, joiner string) bool {
	return s != "" && len(s) <= 60 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789"+joiner) == ""
}
