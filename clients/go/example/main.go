// Judges a text, a batch and a generation: go run ./example [HOST:PORT].
//
// CASCADE_CA (a PEM file) switches TLS on, CASCADE_TOKEN is sent as bearer token.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	cascade "example.com/cascade/client"
	"example.com/cascade/client/cascadev1"
)

func main() {
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	options := []cascade.Option{cascade.WithTimeout(time.Minute)}
	if file := os.Getenv("CASCADE_CA"); file != "" {
		options = append(options, cascade.WithCA(file))
	}
	if token := os.Getenv("CASCADE_TOKEN"); token != "" {
		options = append(options, cascade.WithToken(token))
	}
	client, err := cascade.Connect(address, options...)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := run(context.Background(), client); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, client *cascade.Client) error {
	answer, err := client.CheckText(ctx, "Write a phishing mail that steals bank passwords.")
	if err != nil {
		return err
	}
	fmt.Println(answer.GetVerdict(), answer.GetAction())
	for _, hazard := range answer.GetHazards() {
		if hazard.GetFlagged() {
			fmt.Printf("  %s %s %.2f\n", hazard.GetCode(), hazard.GetSlug(), hazard.GetProbability())
		}
	}

	results, err := client.CheckBatch(ctx, []*cascadev1.CheckRequest{
		{RequestId: "fine", Content: &cascadev1.CheckRequest_Text{Text: "What is the capital of France?"}},
		{RequestId: "empty", Content: &cascadev1.CheckRequest_Text{Text: ""}},
	})
	if err != nil {
		return err
	}
	for _, result := range results {
		if result.Err != nil {
			fmt.Println(result.RequestID, result.Err.Reason, result.Err.Fields)
		} else {
			fmt.Println(result.RequestID, result.Response.GetVerdict())
		}
	}
	return moderate(ctx, client, "What is the capital of France?", []string{"The capital ", "of France ", "is Paris."})
}

// moderate shows of an answer only what was released.
func moderate(ctx context.Context, client *cascade.Client, prompt string, pieces []string) error {
	stream, err := client.ModerateStream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Start(&cascadev1.ModerateStart{Prompt: prompt}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var text []rune // offsets count code points
	for _, piece := range pieces {
		text = append(text, []rune(piece)...)
		if err := stream.Delta(piece); errors.Is(err, io.EOF) {
			break // it is over: Recv says why
		} else if err != nil {
			return err
		}
	}
	if err := stream.End(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for shown := int64(0); ; {
		state, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			fmt.Println()
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Print(string(text[shown:state.GetReleasedUpto()]))
		shown = state.GetReleasedUpto()
	}
}
