package registry

import (
	"strings"
	"unicode"
)

// plain maps the marked letters of the five countries' languages, French and Spanish among them, to the bare ones.
var plain = func() map[rune]rune {
	m := map[rune]rune{}
	for bare, marked := range map[rune]string{
		'a': "āàáâäãå", 'c': "ç", 'e': "ēèéêë", 'g': "\u1e21", 'i': "īìíîï", 'n': "ñ", 'o': "ōòóôöõ", 'u': "ūùúûü", 'y': "ýÿ",
	} {
		for _, r := range marked {
			m[r] = bare
		}
	}
	return m
}()

// Fold returns the form in which names are compared: lower case, without macrons, accents and glottal stops, single
// spaces. People type "Maina" for "Māʻina" and must find her.
func Fold(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	space := false
	for _, r := range name {
		r = unicode.ToLower(r)
		if bare, ok := plain[r]; ok {
			r = bare
		}
		switch {
		case unicode.IsSpace(r) || r == '-':
			space = b.Len() > 0
		case unicode.Is(unicode.Mn, r) || strings.ContainsRune("'’‘ʻʼ`", r):
		default:
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}
