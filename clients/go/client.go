// Package cascade asks a Cascade server whether texts are safe.
//
//	client, err := cascade.Connect("127.0.0.1:50051")
//	answer, err := client.CheckText(ctx, "What is the capital of France?")
//
// The messages are those of package cascadev1. Every error of a call is an *Error.
package cascade

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"example.com/cascade/client/cascadev1"
)

// Client is a connection to one server. It may be used by many goroutines.
type Client struct {
	connection *grpc.ClientConn
	cascade    cascadev1.CascadeServiceClient
	health     grpc_health_v1.HealthClient
	settings   settings
}

// Connect makes a client of the server at "HOST:PORT". It returns at once: the first call makes the connection.
func Connect(address string, options ...Option) (*Client, error) {
	chosen, err := apply(address, options)
	if err != nil {
		return nil, err
	}
	// Dial and not NewClient, so that one source fits all of grpc-go 1.x; with "dns" both do the same.
	connection, err := grpc.Dial("dns:///"+address, chosen.dial()...)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection: connection,
		cascade:    cascadev1.NewCascadeServiceClient(connection),
		health:     grpc_health_v1.NewHealthClient(connection),
		settings:   chosen,
	}, nil
}

// Close ends the connection and all calls under way.
func (c *Client) Close() error { return c.connection.Close() }

// Check judges one content.
func (c *Client) Check(ctx context.Context, request *cascadev1.CheckRequest) (*cascadev1.CheckResponse, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	response, err := c.cascade.Check(ctx, request)
	if err != nil {
		return nil, fromCall(err)
	}
	return response, nil
}

// CheckText judges a single text by the server's default policy.
func (c *Client) CheckText(ctx context.Context, text string) (*cascadev1.CheckResponse, error) {
	return c.Check(ctx, &cascadev1.CheckRequest{Content: &cascadev1.CheckRequest_Text{Text: text}})
}

// Result is what became of one content of a batch or a stream: a Response or an Err.
type Result struct {
	RequestID string
	Response  *cascadev1.CheckResponse
	Err       *Error
}

// CheckBatch judges several contents; the results are in the order of the requests.
func (c *Client) CheckBatch(ctx context.Context, requests []*cascadev1.CheckRequest) ([]Result, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	response, err := c.cascade.BatchCheck(ctx, &cascadev1.BatchCheckRequest{Requests: requests})
	if err != nil {
		return nil, fromCall(err)
	}
	results := make([]Result, 0, len(response.GetItems()))
	for _, item := range response.GetItems() {
		results = append(results, result(item.GetRequestId(), item.GetResponse(), item.GetError()))
	}
	return results, nil
}

// Healthy asks whether a service, for instance "stage2", can answer; "" is the server as a whole.
// A service that the server does not have is an *Error with codes.NotFound.
func (c *Client) Healthy(ctx context.Context, service string) (bool, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	response, err := c.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return false, fromCall(err)
	}
	return response.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING, nil
}

// bounded gives a unary call the client's deadline unless the caller has set one.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.settings.timeout)
}
