package cascade_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	cascade "example.com/cascade/client"
	"example.com/cascade/client/cascadev1"
)

const patience = 60 * time.Second // the machine may be busy

// vector is one test of clients/vectors.json; clients/README.md tells what its members mean.
type vector struct {
	Name    string
	RPC     string
	Request json.RawMessage
	Repeat  map[string]int
	Token   *string
	Expect  expectation
}

// target is a server that the vectors run against.
type target struct {
	address, ca, token string
}

func (s target) connect(t *testing.T, token string) *cascade.Client {
	t.Helper()
	options := []cascade.Option{cascade.WithTimeout(patience)}
	if s.ca != "" {
		options = append(options, cascade.WithCA(s.ca))
	}
	if token != "" {
		options = append(options, cascade.WithToken(token))
	}
	client, err := cascade.Connect(s.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func targets(t *testing.T) map[string]target {
	t.Helper()
	found := map[string]target{}
	if address := os.Getenv("CASCADE_TEST_PLAIN"); address != "" {
		found["plain"] = target{address: address}
	}
	if address := os.Getenv("CASCADE_TEST_SECURE"); address != "" {
		found["secure"] = target{address, os.Getenv("CASCADE_TEST_CA"), os.Getenv("CASCADE_TEST_TOKEN")}
	}
	if len(found) == 0 {
		t.Skip("no server: run-tests HOST:PORT gives one")
	}
	return found
}

func TestVectors(t *testing.T) {
	servers := targets(t)
	content, err := os.ReadFile("../vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(content, &vectors); err != nil {
		t.Fatal(err)
	}
	for name, server := range servers {
		for _, vector := range vectors {
			if vector.Token != nil && server.ca == "" {
				continue
			}
			t.Run(name+"/"+vector.Name, func(t *testing.T) {
				token := server.token
				if vector.Token != nil {
					token = *vector.Token
				}
				vector.run(t, server.connect(t, token))
			})
		}
	}
}

func TestHealth(t *testing.T) {
	for name, server := range targets(t) {
		t.Run(name, func(t *testing.T) {
			client := server.connect(t, server.token)
			if healthy, err := client.Healthy(context.Background(), "stage2"); !healthy || err != nil {
				t.Errorf("healthy: %v, %v", healthy, err)
			}
			_, err := client.Healthy(context.Background(), "no-such-service")
			expectation{Code: "NOT_FOUND"}.error(t, err)
		})
	}
}

func TestAStreamIsSentAndReadAtOnce(t *testing.T) {
	const many = 100
	for name, server := range targets(t) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			stream, err := server.connect(t, server.token).CheckStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sent := make(chan error, 1)
			go func() {
				for i := 0; i < many; i++ {
					content := &cascadev1.CheckRequest_Text{Text: "What is the capital of France?"}
					if err := stream.Send(&cascadev1.CheckRequest{RequestId: strconv.Itoa(i), Content: content}); err != nil {
						sent <- err
						return
					}
				}
				sent <- stream.CloseSend()
			}()
			answered := map[string]bool{}
			for {
				result, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || result.Err != nil {
					t.Fatal(err, result.Err)
				}
				answered[result.RequestID] = true
			}
			if err := <-sent; err != nil || len(answered) != many {
				t.Errorf("%d answers, %v", len(answered), err)
			}
		})
	}
}

func TestAStreamThatIsCancelledEnds(t *testing.T) {
	for name, server := range targets(t) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			stream, err := server.connect(t, server.token).ModerateStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Start(&cascadev1.ModerateStart{Prompt: "Hello."}); err != nil {
				t.Fatal(err)
			}
			cancel()
			for err == nil {
				_, err = stream.Recv()
			}
			expectation{Code: "CANCELLED"}.error(t, err)
		})
	}
}

func (v vector) run(t *testing.T, client *cascade.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch v.RPC {
	case "Check":
		request := &cascadev1.CheckRequest{}
		read(t, v.repeated(t), request)
		response, err := client.Check(ctx, request)
		v.Expect.item(t, cascade.Result{Response: response}, err)
	case "BatchCheck":
		batch := &cascadev1.BatchCheckRequest{}
		read(t, v.repeated(t), batch)
		results, err := client.CheckBatch(ctx, batch.GetRequests())
		v.Expect.items(t, results, err)
	case "CheckStream":
		results, err := v.checkStream(ctx, t, client)
		v.Expect.items(t, results, err)
	case "ModerateStream":
		state, err := v.moderateStream(ctx, t, client)
		if v.Expect.Code != "" {
			v.Expect.error(t, err)
		} else if err != nil {
			t.Fatal(err)
		} else {
			v.Expect.answer(t, state.GetVerdict().GetVerdict(), state)
		}
	default:
		t.Fatalf("no such call: %s", v.RPC)
	}
}

func (v vector) checkStream(ctx context.Context, t *testing.T, client *cascade.Client) ([]cascade.Result, error) {
	stream, err := client.CheckStream(ctx)
	if err != nil {
		return nil, err
	}
	order := map[string]int{}
	for place, message := range v.messages(t) {
		request := &cascadev1.CheckStreamRequest{}
		read(t, message, request)
		order[request.GetRequest().GetRequestId()] = place
		if err := stream.Send(request.GetRequest()); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	results := make([]cascade.Result, len(order))
	for count := 0; ; count++ {
		result, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if count != len(order) {
				t.Errorf("%d answers to %d requests", count, len(order))
			}
			return results, nil
		}
		if err != nil {
			return nil, err
		}
		results[order[result.RequestID]] = result
	}
}

func (v vector) moderateStream(
	ctx context.Context, t *testing.T, client *cascade.Client,
) (*cascadev1.ModerateStreamResponse, error) {
	stream, err := client.ModerateStream(ctx)
	if err != nil {
		return nil, err
	}
	for _, message := range v.messages(t) {
		request := &cascadev1.ModerateStreamRequest{}
		read(t, message, request)
		switch event := request.GetEvent().(type) {
		case *cascadev1.ModerateStreamRequest_Start:
			err = stream.Start(event.Start)
		case *cascadev1.ModerateStreamRequest_Delta:
			err = stream.Delta(event.Delta)
		case *cascadev1.ModerateStreamRequest_End:
			err = stream.End()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	var last *cascadev1.ModerateStreamResponse
	for {
		state, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		last = state
	}
}

func (v vector) messages(t *testing.T) (messages []json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(v.Request, &messages); err != nil {
		t.Fatal(err)
	}
	return messages
}

// repeated is the request with its repeated members as long as the vector says.
func (v vector) repeated(t *testing.T) json.RawMessage {
	t.Helper()
	if len(v.Repeat) == 0 {
		return v.Request
	}
	var members map[string]any
	if err := json.Unmarshal(v.Request, &members); err != nil {
		t.Fatal(err)
	}
	for name, times := range v.Repeat {
		switch member := members[name].(type) {
		case string:
			members[name] = strings.Repeat(member, times)
		case []any:
			var long []any
			for i := 0; i < times; i++ {
				long = append(long, member...)
			}
			members[name] = long
		default:
			t.Fatalf("%s cannot be repeated", name)
		}
	}
	written, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func read(t *testing.T, written json.RawMessage, message proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal(written, message); err != nil {
		t.Fatal(err)
	}
}
