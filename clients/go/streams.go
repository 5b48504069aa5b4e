package cascade

import (
	"context"
	"errors"
	"io"

	"example.com/cascade/client/cascadev1"
)

// CheckStream judges contents as they come. Send and Recv may run in two goroutines, and should: a server that waits
// for its answers to be read takes no further contents.
type CheckStream struct {
	stream cascadev1.CascadeService_CheckStreamClient
}

// CheckStream opens a stream; cancelling ctx ends it.
func (c *Client) CheckStream(ctx context.Context) (*CheckStream, error) {
	stream, err := c.cascade.CheckStream(ctx)
	if err != nil {
		return nil, fromCall(err)
	}
	return &CheckStream{stream}, nil
}

// Send sends one content; give each a RequestId of its own. io.EOF means that the stream is over: Recv tells why.
func (s *CheckStream) Send(request *cascadev1.CheckRequest) error {
	return ended(s.stream.Send(&cascadev1.CheckStreamRequest{Request: request}))
}

// CloseSend says that there are no more contents.
func (s *CheckStream) CloseSend() error { return ended(s.stream.CloseSend()) }

// Recv returns the next answer, in any order; io.EOF after the last one.
func (s *CheckStream) Recv() (Result, error) {
	response, err := s.stream.Recv()
	if err != nil {
		return Result{}, ended(err)
	}
	return result(response.GetRequestId(), response.GetResponse(), response.GetError()), nil
}

// ModerateStream judges one generation while it is written: Start, then Delta for each piece, then End.
type ModerateStream struct {
	stream cascadev1.CascadeService_ModerateStreamClient
}

// ModerateStream opens a stream; cancelling ctx ends it.
func (c *Client) ModerateStream(ctx context.Context) (*ModerateStream, error) {
	stream, err := c.cascade.ModerateStream(ctx)
	if err != nil {
		return nil, fromCall(err)
	}
	return &ModerateStream{stream}, nil
}

// Start opens the generation. io.EOF, of Delta and End too, means that the stream is over, as after a block.
func (s *ModerateStream) Start(start *cascadev1.ModerateStart) error {
	return s.send(&cascadev1.ModerateStreamRequest{Event: &cascadev1.ModerateStreamRequest_Start{Start: start}})
}

// Delta sends the next piece of the generation.
func (s *ModerateStream) Delta(text string) error {
	return s.send(&cascadev1.ModerateStreamRequest{Event: &cascadev1.ModerateStreamRequest_Delta{Delta: text}})
}

// End says that the generation is complete: what is left is judged.
func (s *ModerateStream) End() error {
	end := &cascadev1.ModerateStreamRequest_End{End: &cascadev1.ModerateEnd{}}
	if err := s.send(&cascadev1.ModerateStreamRequest{Event: end}); err != nil {
		return err
	}
	return ended(s.stream.CloseSend())
}

// Recv returns the next state of the generation; io.EOF after the final one.
func (s *ModerateStream) Recv() (*cascadev1.ModerateStreamResponse, error) {
	state, err := s.stream.Recv()
	if err != nil {
		return nil, ended(err)
	}
	return state, nil
}

func (s *ModerateStream) send(message *cascadev1.ModerateStreamRequest) error {
	return ended(s.stream.Send(message))
}

// ended makes an *Error of what a stream returns, and leaves io.EOF as it is.
func ended(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fromCall(err)
}
