package journey

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"

	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/outcome"
)

// Classify says what kind of failure an error of a transport is.
func Classify(err error) outcome.Class {
	var (
		name    *net.DNSError
		op      *net.OpError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		wait    net.Error
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &name):
		return outcome.FailedDNS
	case errors.As(err, &verify), errors.As(err, &record), errors.As(err, &alert), errors.As(err, &unknown), errors.As(err, &host):
		return outcome.FailedTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &wait) && wait.Timeout():
		return outcome.FailedTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return outcome.FailedConnect
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, http1.ErrSilent):
		return outcome.FailedReset
	}
	return outcome.FailedOther
}
