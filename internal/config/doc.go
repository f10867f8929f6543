// Package config turns what an operator wrote (YAML) into a typed, complete and checked Config. It is the only package that
// knows YAML. Every problem is found at once, and shown at its line and column with what to write instead. What is known
// only to an adapter stays in the adapter's own Body; what the engine needs is in Fleet.Policy. It opens nothing but the
// file itself, dials nothing and reads no clock.
package config
