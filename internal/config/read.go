package config

import "go.yaml.in/yaml/v4"

// Read reads a YAML file that is no configuration, such as a plan's, into body, a pointer to a struct that holds its defaults: as
// strictly as a configuration, all problems at once, each at its line and column. lines holds the line of each setting that is
// written, by its path, as in Problem.Field. Environment variables are not filled in.
func Read(name string, data []byte, body Body) (lines map[string]int, problems Problems) {
	t, text, problems := readText(name, data)
	if problems != nil {
		return nil, problems
	}
	root, problems := readYAML(t, text, "write fields, such as name: value")
	if problems != nil {
		return nil, problems
	}
	d := &decoder{
		text: t, env: func(string) (string, bool) { return "", false }, other: true,
		places: map[string]place{}, given: map[string]string{}, failed: map[string]bool{}, around: map[string]bool{}, hidden: map[string]string{},
	}
	d.read(root, body)
	if d.aliased > maxAliased {
		return nil, Problems{t.tooManyAliases()}
	}
	lines = map[string]int{}
	for path, p := range d.places {
		lines[path] = p.key.line
	}
	return lines, d.probs.sorted()
}

func (d *decoder) read(root *yaml.Node, body Body) {
	at := mark{root.Line, root.Column}
	d.places[""] = place{key: at, value: at}
	d.decodeBody("", root, body)
	delete(d.places, "")
}
