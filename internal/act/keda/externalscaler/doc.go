// Package externalscaler is the protocol that KEDA asks an external scaler by: what protoc makes of externalscaler.proto.
package externalscaler

//go:generate ../../../../scripts/protobuf
