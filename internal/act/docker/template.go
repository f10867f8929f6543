package docker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The labels by which a copy is known again. What a daemon needs to know of a copy stands in them and in the copy's name; nothing is
// kept elsewhere.
const (
	labelFleet    = "tidemark.fleet"
	labelInstance = "tidemark.instance"
	labelSlot     = "tidemark.slot"
	labelPort     = "tidemark.port"     // of this machine; absent when the copy has none
	labelTemplate = "tidemark.template" // digest of what it was copied from

	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneOff  = "com.docker.compose.oneoff"
)

// template is the container that copies are made from. config, host and labels are without what is its own alone.
type template struct {
	*container
	config, host map[string]json.RawMessage
	labels       map[string]string
	digest       string
}

// errShared: a container that has no network of its own cannot be told from its copies.
var errShared = errors.New("uses the network of another container, which its copies cannot share: give it a network, or the host's")

// newTemplate reads what there is to copy, and checks that it can be.
func (t *Target) newTemplate(c *container) (*template, error) {
	var parts struct {
		Config, HostConfig map[string]json.RawMessage
	}
	if err := json.Unmarshal(c.raw, &parts); err != nil {
		return nil, fmt.Errorf("read the template %s: %w", c.name(), err)
	}
	mode := c.HostConfig.NetworkMode
	switch {
	case strings.HasPrefix(mode, "container:"):
		return nil, fmt.Errorf("the template %s %w", c.name(), errShared)
	case mode == "host" && !t.cfg.Ports.Given():
		return nil, fmt.Errorf("the template %s is on the host's network, where each copy needs a port of its own: write ports: {first: 9001}, and tell the program its own by command or env with {port}", c.name())
	case mode == "host" && !t.cfg.mentions("{port}"):
		return nil, fmt.Errorf("the template %s is on the host's network, and neither command nor env has {port}: every copy would listen on the same port", c.name())
	case mode != "host" && t.cfg.Port == 0:
		return nil, fmt.Errorf("the template %s has a network of its own: write port, on which the service listens in it", c.name())
	}
	delete(parts.Config, "MacAddress")
	if strings.HasPrefix(c.ID, c.Config.Hostname) {
		delete(parts.Config, "Hostname") // the engine gave it
	}
	labels := maps.Clone(c.Config.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if labels[labelProject] != "" {
		// To compose the copy is like those of docker compose run: up leaves it alone, down removes it.
		labels[labelOneOff] = "True"
		delete(labels, labelNumber)
	}
	if err := set(parts.Config, "Labels", labels); err != nil {
		return nil, err
	}
	own, err := json.Marshal([]any{c.Image, parts.Config, parts.HostConfig, slices.Sorted(maps.Keys(c.NetworkSettings.Networks)), t.cfg.Command, t.cfg.Env, t.cfg.Port})
	if err != nil {
		return nil, err
	}
	return &template{c, parts.Config, parts.HostConfig, labels, fmt.Sprintf("%.8x", sha256.Sum256(own))}, nil
}

// set puts a value in place of a field.
func set(fields map[string]json.RawMessage, name string, value any) error {
	text, err := json.Marshal(value)
	fields[name] = text
	return err
}

// body is what the engine is to create for a slot: the template's own configuration but for what must be the copy's own.
func (t *Target) body(ctx context.Context, from *template, slot int) (map[string]any, error) {
	config, host := maps.Clone(from.config), maps.Clone(from.host)
	image, err := t.sameImage(ctx, from)
	if err != nil {
		return nil, err
	}
	port := t.cfg.Ports.At(slot)
	fill := strings.NewReplacer("{slot}", strconv.Itoa(slot), "{port}", strconv.Itoa(port))
	env, err := t.env(config["Env"], fill)
	if err != nil {
		return nil, err
	}
	labels := maps.Clone(from.labels)
	labels[labelFleet], labels[labelInstance], labels[labelSlot], labels[labelTemplate] = t.opts.Fleet, t.opts.Instance, strconv.Itoa(slot), from.digest
	published := map[string]any{}
	if port != 0 {
		labels[labelPort] = strconv.Itoa(port)
		if from.HostConfig.NetworkMode != "host" {
			inside := strconv.Itoa(t.cfg.Port) + "/tcp"
			published[inside] = []map[string]string{{"HostIp": "127.0.0.1", "HostPort": strconv.Itoa(port)}}
			var exposed map[string]any
			_ = json.Unmarshal(config["ExposedPorts"], &exposed) // absent, or what the engine wrote
			if exposed == nil {
				exposed = map[string]any{}
			}
			exposed[inside] = struct{}{}
			if err := set(config, "ExposedPorts", exposed); err != nil {
				return nil, err
			}
		}
	}
	changes := map[string]any{"Image": image, "Env": env, "Labels": labels}
	if len(t.cfg.Command) > 0 {
		command := make([]string, len(t.cfg.Command))
		for i, s := range t.cfg.Command {
			command[i] = fill.Replace(s)
		}
		changes["Cmd"] = command
	}
	for name, v := range changes {
		if err := set(config, name, v); err != nil {
			return nil, err
		}
	}
	hostChanges := map[string]any{"PortBindings": published, "PublishAllPorts": false, "ContainerIDFile": "", "AutoRemove": false}
	if restarts(host["RestartPolicy"]) == "" {
		hostChanges["RestartPolicy"] = map[string]any{"Name": "unless-stopped"} // a worker that dies is replaced
	}
	for name, v := range hostChanges {
		if err := set(host, name, v); err != nil {
			return nil, err
		}
	}
	body := map[string]any{"HostConfig": host}
	for name, v := range config {
		body[name] = v
	}
	if name, end := from.primary(); name != "" {
		body["NetworkingConfig"] = map[string]any{"EndpointsConfig": map[string]any{name: from.end(end)}}
	}
	return body, nil
}

// sameImage names the image that the template runs, which its tag may no longer do.
func (t *Target) sameImage(ctx context.Context, from *template) (string, error) {
	id, err := t.engine.imageID(ctx, from.Config.Image)
	if err != nil {
		return "", fmt.Errorf("look for the image %s: %w", from.Config.Image, err)
	}
	if id == from.Image {
		return from.Config.Image, nil
	}
	return from.Image, nil
}

// env is the template's environment with the operator's changes.
func (t *Target) env(had json.RawMessage, fill *strings.Replacer) ([]string, error) {
	var env []string
	if len(had) > 0 {
		if err := json.Unmarshal(had, &env); err != nil {
			return nil, fmt.Errorf("read the template's environment: %w", err)
		}
	}
	env = slices.DeleteFunc(env, func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		_, ours := t.cfg.Env[name]
		return ours
	})
	for _, k := range slices.Sorted(maps.Keys(t.cfg.Env)) {
		env = append(env, k+"="+fill.Replace(t.cfg.Env[k]))
	}
	return env, nil
}

// restarts is the name of a restart policy; "" when there is none.
func restarts(policy json.RawMessage) string {
	var p struct{ Name string }
	_ = json.Unmarshal(policy, &p) // absent, or what the engine wrote
	if p.Name == "no" {
		return ""
	}
	return p.Name
}

// primary is the network that a container is created in; "" when the engine has it in none that can be described.
func (from *template) primary() (string, endpoint) {
	mode := from.HostConfig.NetworkMode
	for name, end := range from.NetworkSettings.Networks {
		if (name == mode || end.NetworkID == mode) && !predefined(name) {
			return name, end
		}
	}
	return "", endpoint{}
}

// further are the networks that a copy is connected to before it is started.
func (from *template) further() []string {
	first, _ := from.primary()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(from.NetworkSettings.Networks)) {
		if name != first && !predefined(name) {
			names = append(names, name)
		}
	}
	return names
}

// predefined networks are the engine's own, in which a container has no aliases.
func predefined(network string) bool {
	return network == "host" || network == "none" || network == "bridge" || network == "default"
}

// end is a copy's end of a network: the template's, less the address and the names that are the template's alone.
func (from *template) end(e endpoint) map[string]any {
	aliases := slices.DeleteFunc(slices.Clone(e.Aliases), func(a string) bool {
		return a == from.name() || strings.HasPrefix(from.ID, a)
	})
	return map[string]any{"Aliases": aliases, "Links": e.Links, "DriverOpts": e.DriverOpts}
}
