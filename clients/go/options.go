package cascade

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// The retry policy of clients/service-config.json, unless WithServiceConfig gives another; a test holds the two together.
const serviceConfig = `{
  "methodConfig": [
    {
      "name": [{"service": "cascade.v1.CascadeService"}, {"service": "grpc.health.v1.Health"}],
      "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
      }
    }
  ],
  "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1}
}`

const (
	defaultTimeout = 10 * time.Second
	maxAnswerBytes = 64 << 20 // a batch of long explained answers is larger than gRPC's own 4 MB
)

// Option changes how a client connects or calls.
type Option func(*settings) error

type settings struct {
	timeout time.Duration
	token   string
	tls     *tls.Config
	config  string // of the service, as JSON
}

// WithTimeout bounds each unary call whose context has no deadline; 10 s by default.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		s.timeout = timeout
		return nil
	}
}

// WithToken sends a bearer token with each call. It needs TLS, unless the server is on a loopback address.
func WithToken(token string) Option {
	return func(s *settings) error {
		s.token = token
		return nil
	}
}

// WithServiceConfig repeats calls as a gRPC service config says, given as JSON, instead of as this package's own does.
// Connect fails if it cannot be read.
func WithServiceConfig(config string) Option {
	return func(s *settings) error {
		s.config = config
		return nil
	}
}

// WithTLS encrypts the connection; nil trusts the system's authorities.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		s.tls = config
		return nil
	}
}

// WithCA encrypts the connection and trusts the authorities of a PEM file alone.
func WithCA(file string) Option {
	return func(s *settings) error {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", file)
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
		return nil
	}
}

func apply(address string, options []Option) (settings, error) {
	chosen := settings{timeout: defaultTimeout, config: serviceConfig}
	for _, option := range options {
		if err := option(&chosen); err != nil {
			return settings{}, fmt.Errorf("cascade: %w", err)
		}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return settings{}, fmt.Errorf("cascade: HOST:PORT is wanted: %w", err)
	}
	if chosen.token != "" && chosen.tls == nil && !loopback(host) {
		return settings{}, errors.New("cascade: a token is not sent without TLS to another machine")
	}
	return chosen, nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (s settings) dial() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(s.config),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	}
	if s.tls != nil {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(s.tls)))
	} else {
		options = append(options, grpc.WithInsecure())
	}
	if s.token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{s.token, s.tls != nil}))
	}
	return options
}

// bearer puts the token into the metadata of each call.
type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }
