// Package keda answers KEDA as an external scaler, by gRPC: it says what size each fleet of target kind keda is to have. It decides nothing
// and sets nothing. What cannot be said is an error, which has KEDA keep the size, and never a number.
package keda

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "tidemark/internal/act/keda/externalscaler"
	"tidemark/internal/act/kubernetes"
)

// Fleet is one whose size KEDA sets.
type Fleet interface {
	// Wanted is the size that a ScaledObject is to give the fleet, above 0. kubernetes.ErrNotFollowed: the ScaledObject is not set up for it.
	Wanted(ctx context.Context, namespace, scaledObject string) (int, error)
	// Changed is closed when that is another.
	Changed() <-chan struct{}
}

// Options are what a Scaler answers from.
type Options struct {
	// Fleet finds one by its name; nil: there is none.
	Fleet func(name string) Fleet
	// Leads returns nil while this daemon leads, else why that is not known.
	Leads func() error
	// TLS is nil where KEDA asks in clear.
	TLS *tls.Config
}

// What a client may take. KEDA's operator has one connection for all its ScaledObjects, and a stream on it for each trigger of type
// external-push.
const (
	MostConnections = 64
	mostStreams     = 4096     // of one connection,
	mostWatching    = 4096     // and of all that watch
	mostBytes       = 64 << 10 // of one message
	answering       = 5 * time.Second
	watching        = 15 * time.Second // between two looks whether this daemon leads
)

// Scaler is the server.
type Scaler struct {
	pb.UnimplementedExternalScalerServer

	opts     Options
	server   *grpc.Server
	watchers atomic.Int64
}

// New makes a server. It listens to nobody before Serve.
func New(opts Options) *Scaler {
	s := &Scaler{opts: opts}
	creds := insecure.NewCredentials()
	if opts.TLS != nil {
		creds = credentials.NewTLS(opts.TLS)
	}
	s.server = grpc.NewServer(
		grpc.Creds(creds), grpc.ConnectionTimeout(5*time.Second), grpc.MaxConcurrentStreams(mostStreams),
		grpc.MaxRecvMsgSize(mostBytes), grpc.MaxSendMsgSize(mostBytes), grpc.MaxHeaderListSize(16<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}), // a client that vanished is noticed
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, answering)
			defer cancel()
			return next(ctx, req)
		}),
	)
	pb.RegisterExternalScalerServer(s.server, s)
	return s
}

// Serve answers at l until Close.
func (s *Scaler) Serve(l net.Listener) error {
	if err := s.server.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil // it was closed before
}

// Close ends the server, its listener, and what is under way. Twice is harmless.
func (s *Scaler) Close() { s.server.Stop() }

// fleet finds the fleet that a trigger is about.
func (s *Scaler) fleet(ref *pb.ScaledObjectRef) (Fleet, error) {
	name := ref.GetScalerMetadata()["fleet"]
	if name == "" {
		return nil, status.Error(codes.InvalidArgument, "the trigger's metadata names no fleet: write fleet: and its name in Tidemark's configuration")
	}
	f := s.opts.Fleet(name)
	if f == nil {
		return nil, status.Errorf(codes.NotFound, "Tidemark has no fleet %q of target kind keda", name)
	}
	return f, nil
}

// wanted is the size of a fleet, while this daemon leads: another may be moving it else.
func (s *Scaler) wanted(ctx context.Context, f Fleet, ref *pb.ScaledObjectRef) (int, error) {
	if err := s.opts.Leads(); err != nil {
		return 0, status.Error(codes.Unavailable, err.Error())
	}
	n, err := f.Wanted(ctx, ref.GetNamespace(), ref.GetName())
	switch {
	case errors.Is(err, kubernetes.ErrNotFollowed):
		return 0, status.Error(codes.FailedPrecondition, err.Error())
	case err != nil:
		return 0, status.Error(codes.Unavailable, err.Error())
	}
	return n, nil
}

// GetMetricSpec has the HPA ask for the size, and make as many replicas of it.
func (s *Scaler) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	if _, err := s.fleet(ref); err != nil {
		return nil, err
	}
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: kubernetes.FollowedMetric, TargetSize: 1, TargetSizeFloat: 1}}}, nil
}

// GetMetrics says the size.
func (s *Scaler) GetMetrics(ctx context.Context, req *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	ref := req.GetScaledObjectRef()
	f, err := s.fleet(ref)
	if err != nil {
		return nil, err
	}
	if name := req.GetMetricName(); name != kubernetes.FollowedMetric {
		return nil, status.Errorf(codes.NotFound, "there is no metric %q", name)
	}
	n, err := s.wanted(ctx, f, ref)
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: kubernetes.FollowedMetric, MetricValue: int64(n), MetricValueFloat: float64(n)}}}, nil
}

// IsActive is true, or an error: no fleet is to have no replicas at all, and what is not known is no reason for it.
func (s *Scaler) IsActive(ctx context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	f, err := s.fleet(ref)
	if err != nil {
		return nil, err
	}
	if _, err := s.wanted(ctx, f, ref); err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: true}, nil
}

// StreamIsActive says true at once when a size is wanted, and then whenever it is another, until this daemon leads no more. While a size is
// not known it says nothing.
func (s *Scaler) StreamIsActive(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	f, err := s.fleet(ref)
	if err != nil {
		return err
	}
	if s.watchers.Add(1) > mostWatching {
		s.watchers.Add(-1)
		return status.Errorf(codes.ResourceExhausted, "%d streams are open already", mostWatching)
	}
	defer s.watchers.Add(-1)
	ctx := stream.Context()
	timer := time.NewTicker(watching)
	defer timer.Stop()
	for said := 0; ; {
		changed := f.Changed() // before it is asked, so that no change is missed
		asking, cancel := context.WithTimeout(ctx, answering)
		n, err := s.wanted(asking, f, ref)
		cancel()
		if s.opts.Leads() != nil {
			return err
		}
		if err == nil && n != said {
			if err := stream.Send(&pb.IsActiveResponse{Result: true}); err != nil {
				return err
			}
			said = n
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the client is gone: %w", ctx.Err())
		case <-changed:
		case <-timer.C:
			if s.opts.Fleet(ref.GetScalerMetadata()["fleet"]) != f {
				return status.Error(codes.Unavailable, "Tidemark's configuration is another now")
			}
		}
	}
}
