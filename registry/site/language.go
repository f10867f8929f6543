package site

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed lang/*.txt
var languageFiles embed.FS

// language is one of the portal's. Its texts are in lang/CODE.txt; what it lacks is shown in English.
type language struct {
	Code  string // BCP 47, such as sm
	Name  string // in the language itself
	texts map[string]string
}

// english is the language that has every text, and that of the admin pages.
const english = "en"

var languages = mustRead(languageFiles)

// mustRead reads the language files, which are part of the program.
func mustRead(files fs.FS) map[string]*language {
	all := map[string]*language{}
	names, err := fs.Glob(files, "lang/*.txt")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		l := &language{Code: strings.TrimSuffix(path.Base(name), ".txt"), texts: map[string]string{}}
		for i, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, value, ok := strings.Cut(line, " = ")
			if _, twice := l.texts[key]; !ok || twice {
				panic(fmt.Sprintf("%s:%d: must be \"key = text\", each key once", name, i+1))
			}
			l.texts[key] = value
		}
		l.Name = l.texts["language"]
		all[l.Code] = l
	}
	return all
}

// T is the text of a key in the language, else in English, else the key itself.
func (l *language) T(key string, args ...any) string {
	text := cmp.Or(l.texts[key], languages[english].texts[key], key)
	if len(args) > 0 {
		return fmt.Sprintf(text, args...)
	}
	return text
}

const languageCookie = "language"

// languageOf chooses by what was chosen before, then by what the browser prefers (RFC 9110, 12.5.4).
func languageOf(r *http.Request) *language {
	if c, err := r.Cookie(languageCookie); err == nil && languages[c.Value] != nil {
		return languages[c.Value]
	}
	best, most := languages[english], 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameters), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if l := languages[primary]; l != nil && q > most {
			best, most = l, q
		}
	}
	return best
}

// others are the languages that one can change to, by their names.
func (l *language) others() []*language {
	var all []*language
	for _, other := range languages {
		if other != l {
			all = append(all, other)
		}
	}
	slices.SortFunc(all, func(a, b *language) int { return strings.Compare(a.Name, b.Name) })
	return all
}
