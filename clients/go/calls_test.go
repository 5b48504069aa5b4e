package cascade

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/cascade/client/cascadev1"
)

// fake refuses the first calls and answers the rest.
type fake struct {
	cascadev1.UnimplementedCascadeServiceServer
	calls, refused int32
	code           codes.Code
	pushback       string
}

func (f *fake) Check(ctx context.Context, request *cascadev1.CheckRequest) (*cascadev1.CheckResponse, error) {
	if atomic.AddInt32(&f.calls, 1) <= f.refused {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", f.pushback)); err != nil {
			return nil, err
		}
		return nil, status.Error(f.code, "refused")
	}
	if request.GetText() == "hang" {
		<-ctx.Done()
		return nil, status.Error(codes.DeadlineExceeded, "late") // the answer may overtake the caller's own clock
	}
	return &cascadev1.CheckResponse{}, nil
}

func (f *fake) connect(t *testing.T, options ...Option) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cascadev1.RegisterCascadeServiceServer(server, f)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	client, err := Connect(listener.Addr().String(), append(options, WithTimeout(time.Minute))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRepeats(t *testing.T) {
	for name, test := range map[string]struct {
		server *fake
		calls  int32
		code   codes.Code
	}{
		"what is unavailable": {&fake{refused: 2, code: codes.Unavailable, pushback: "1"}, 3, codes.OK},
		"not what is refused": {
			&fake{refused: 2, code: codes.ResourceExhausted, pushback: "-1"}, 1, codes.ResourceExhausted,
		},
		"not what may be our fault":   {&fake{refused: 2, code: codes.Internal, pushback: "1"}, 1, codes.Internal},
		"five times and then no more": {&fake{refused: 99, code: codes.Unavailable, pushback: "1"}, 5, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.server.connect(t).CheckText(context.Background(), "hello")
			if calls := atomic.LoadInt32(&test.server.calls); status.Code(err) != test.code || calls != test.calls {
				t.Errorf("%v after %d calls", err, calls)
			}
		})
	}
}

func TestServiceConfigOfTheCaller(t *testing.T) {
	config, err := os.ReadFile("../../deploy/ray/service-config.json")
	if err != nil {
		t.Fatal(err)
	}
	server := &fake{refused: 2, code: codes.Internal, pushback: "1"}
	if _, err := server.connect(t, WithServiceConfig(string(config))).CheckText(context.Background(), "hello"); err != nil {
		t.Error(err)
	}
	if calls := atomic.LoadInt32(&server.calls); calls != 3 {
		t.Errorf("%d calls", calls)
	}
	for _, config := range []string{"", "{"} {
		if _, err := Connect("127.0.0.1:50051", WithServiceConfig(config)); err == nil {
			t.Errorf("%q was taken", config)
		}
	}
}

func TestDeadline(t *testing.T) {
	client := (&fake{}).connect(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := client.CheckText(ctx, "hang")
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != codes.DeadlineExceeded || failure.Reason != "" {
		t.Errorf("%v", err)
	}
	client.settings.timeout = 200 * time.Millisecond
	if _, err := client.CheckText(context.Background(), "hang"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

func TestTokenIsNotSentInTheClear(t *testing.T) {
	for address, fine := range map[string]bool{
		"192.0.2.1:50051": false, "127.example.com:50051": false, "127.0.0.1:50051": true, "[::1]:50051": true,
	} {
		client, err := Connect(address, WithToken("secret"))
		if (err == nil) != fine {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			client.Close()
		}
	}
	client, err := Connect("192.0.2.1:50051", WithToken("secret"), WithTLS(nil))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestServiceConfigIsTheSharedOne(t *testing.T) {
	file, err := os.ReadFile("../service-config.json")
	if err != nil {
		t.Fatal(err)
	}
	var shared, own any
	if err := json.Unmarshal(file, &shared); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(serviceConfig), &own); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(shared, own) {
		t.Errorf("options.go has %v, the file %v", own, shared)
	}
}

func TestStubsAreThoseOfTheContract(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is missing")
	}
	file := filepath.Join(t.TempDir(), "contract")
	names := []string{"cascade/v1/check.proto", "cascade/v1/cascade_service.proto"}
	command := exec.Command("protoc", append([]string{"-I../../protos", "-o", file}, names...)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var contract descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(content, &contract); err != nil {
		t.Fatal(err)
	}
	stubs := map[string]protoreflect.FileDescriptor{
		names[0]: cascadev1.File_cascade_v1_check_proto,
		names[1]: cascadev1.File_cascade_v1_cascade_service_proto,
	}
	for _, wanted := range contract.GetFile() {
		// Both go the same way, for it leaves out what protoc writes and the runtime does not need.
		file, err := protodesc.NewFile(wanted, protoregistry.GlobalFiles)
		if err != nil {
			t.Fatal(err)
		}
		own := stubs[wanted.GetName()]
		if !proto.Equal(protodesc.ToFileDescriptorProto(file), protodesc.ToFileDescriptorProto(own)) {
			t.Errorf("%s has changed: run ./generate", wanted.GetName())
		}
	}
	if len(contract.GetFile()) != len(stubs) {
		t.Errorf("%d files", len(contract.GetFile()))
	}
}
