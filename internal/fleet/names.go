package fleet

import "fmt"

// nameOf and parseName give each enumeration of this package its one spelling.
func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}

func parseName[E ~uint8](into *E, names []string, b []byte, what string) error {
	for i, n := range names {
		if n == string(b) && n != "" {
			*into = E(i)
			return nil
		}
	}
	return fmt.Errorf("unknown %s %q", what, b)
}
