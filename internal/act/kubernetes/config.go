package kubernetes

import (
	"fmt"

	"tidemark/internal/config"
	"tidemark/internal/kubeapi"
)

// Config is what an operator writes under `target: {kubernetes: ...}`.
type Config struct {
	kubeapi.Place `yaml:",inline"`

	Name       string `yaml:"name"`        // of the object that is scaled
	Kind       string `yaml:"kind"`        // Deployment by default; StatefulSet, or any that has the subresource scale
	APIVersion string `yaml:"api_version"` // of the kind; apps/v1 by default
	Port       int    `yaml:"port"`        // on which a pod takes requests, for a balancer of Tidemark's; 0: a Service does that
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config { return Config{Kind: "Deployment", APIVersion: "apps/v1"} }

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	c.Place.Validate(&errs)
	switch {
	case c.Name == "":
		errs.Add("name", "is missing", "write the name of the Deployment, as kubectl get deployments shows it")
	case !kubeapi.Name(c.Name):
		errs.Add("name", fmt.Sprintf("%q is not the name of an object", c.Name), "use lower-case letters, digits, hyphens and dots")
	}
	switch c.Kind {
	case "":
		errs.Add("kind", "is missing", "write Deployment or StatefulSet, or leave it out")
	case "DaemonSet":
		errs.Add("kind", "a DaemonSet has one pod on each node and no size of its own", "make it a Deployment")
	case "ReplicationController":
		errs.Add("kind", "is what ReplicaSets took the place of", "make it a Deployment")
	}
	if c.APIVersion == "" {
		errs.Add("api_version", "is missing", "write apps/v1, or leave it out")
	}
	if c.Port < 0 || c.Port > 65535 {
		errs.Add("port", fmt.Sprintf("%d is not a port", c.Port), "write 1 to 65535, or leave it out where a Service spreads the requests")
	}
	return errs.Err()
}
