package config

// Lease is a Lease of Kubernetes by which one of several daemons leads; the others stand by. The zero value is none. What is left out is
// found as kubectl, or a pod, finds it.
type Lease struct {
	Name       string `yaml:"name,required" example:"tidemark"`
	Namespace  string `yaml:"namespace"`
	Kubeconfig string `yaml:"kubeconfig"`
	Context    string `yaml:"context"`
}

func (l Lease) absent() bool { return l.Name == "" }

// lease checks one, and says what it does not do.
func (d *decoder) lease(l *Lease, j *Journal) {
	switch {
	case !d.written("lease") || !d.ok("lease"):
	case j.Shared():
		d.fail("lease", "is written beside journal.postgres, which keeps the lead by itself", "delete it")
	case !goodName.MatchString(l.Name):
		d.fail("lease.name", quote("lease.name", l.Name)+" is not the name of an object", "write tidemark; use lower-case letters, digits and hyphens")
	default:
		d.warn("lease", "each daemon has a journal of its own: one that takes over knows no cooldown, alarm or order of the one before", "write journal: {postgres: {dsn: ...}} in its place where that matters")
	}
}
