package registry

import "maps"

// Merging is what Merge found.
type Merging struct {
	Apply    Fields   // to be stored; nil values empty a field
	Review   Fields   // to be shown to a person: the sender's values
	Conflict []string // the names in Review, in the entity's order
	Beside   bool     // other fields were changed since base
}

// Merge decides field by field what becomes of an update. now is the record as it is, base the version that the editor
// saw, since the fields that others have changed after it, as the audit trail tells.
//
// An edit of the newest version is applied. Of an older one, what others have not touched is applied too; the same field,
// or a protected one, is a person's decision, unless the field is declared last-wins. A value that is there already
// is no edit.
func Merge(e *Entity, now Fields, since map[string]bool, change Fields) Merging {
	m := Merging{Apply: Fields{}, Review: Fields{}, Beside: len(since) > 0}
	for _, f := range e.Fields {
		value, edited := change[f.Name]
		if !edited || value == now[f.Name] {
			continue
		}
		switch {
		case !m.Beside, f.Merge == LastWins, f.Merge == Together && !since[f.Name]:
			m.Apply[f.Name] = value
		default:
			m.Review[f.Name] = value
			m.Conflict = append(m.Conflict, f.Name)
		}
	}
	return m
}

// With returns the fields with an edit applied.
func (f Fields) With(edit Fields) Fields {
	out := maps.Clone(f)
	for name, value := range edit {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = value
		}
	}
	return out
}
