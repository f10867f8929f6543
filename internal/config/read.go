package config

// Decode reads a file that is no configuration, and is written as one is: as strictly, all problems at once, each at its line and
// column. what says what it is, such as "scenario"; into holds the defaults. lines holds the line of each setting that is written, by
// its path, as in Problem.Field.
func Decode(what, name string, data []byte, env func(string) (string, bool), into Body) (lines map[string]int, problems Problems) {
	t, body, problems := readText(name, data)
	if problems != nil {
		return nil, problems
	}
	root, problems := readYAML(t, body, what)
	if problems != nil {
		return nil, problems
	}
	d := newDecoder(t, env)
	d.other = what
	d.decodeBody("", root, into)
	if problems := d.tooMany(); problems != nil {
		return nil, problems
	}
	lines = map[string]int{}
	for path, p := range d.places {
		lines[path] = p.key.line
	}
	return lines, d.probs.sorted()
}
