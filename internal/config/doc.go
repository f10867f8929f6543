// Package config turns what an operator wrote (YAML) into a typed, complete and checked Config. It is the only package that
// knows YAML. Every problem is found at once, and shown at its line and column with what to write instead. What is known
// only to an adapter stays in the adapter's own Body; what the engine needs is in Fleet.Policy. It opens nothing but the
// file itself, dials nothing and reads no clock.
//
// A setting of a Body is an exported field with a yaml tag. It may be a bool, a number, a string, a time.Duration, an
// encoding.TextUnmarshaler, or a struct, slice or map with string keys of such. The tag is the name, and one of
//
//	`yaml:"name,required"`  it must be written; an `example` tag is then shown
//	`yaml:"name,bytes"`     an integer that is written as 512MiB
//	`yaml:"name,percent"`   a number from 0 to 100 that may be written as 80%
//	`yaml:",inline"`        the fields of a struct, as if they stood here
//
// In strings, ${NAME} is filled in from the environment, and $${ is ${ itself.
package config
