// Client: asks a Cascade server whether texts are safe.
//
//   cascade::Client client("127.0.0.1:50051");
//   auto answer = client.CheckText("What is the capital of France?");
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

#include "cascade/error.h"
#include "cascade/streams.h"
#include "cascade/v1/cascade_service.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace cascade {

// How a client connects and calls.
struct Options {
  // Encrypts the connection.
  bool tls = false;
  // The authorities that are trusted, as PEM; empty: the system's.
  std::string ca;
  // Sent as bearer token with each call. It needs TLS, unless the server is on a loopback address.
  std::string token;
  // Bounds each unary call that has no bound of its own.
  std::chrono::milliseconds timeout = std::chrono::seconds(10);
  // A gRPC service config, as JSON, by which calls are repeated; empty: this client's own. gRPC has every call fail on one
  // that it cannot read.
  std::string service_config;
};

using Timeout = std::optional<std::chrono::milliseconds>;

// A connection to one server. It may be used by many threads. All calls throw Error.
class Client {
 public:
  // Takes "HOST:PORT" and returns at once: the first call makes the connection. Throws std::invalid_argument if a token
  // would be sent in the clear to another machine, or if there are authorities without TLS.
  explicit Client(const std::string& address, Options options = {});

  // Judges one content.
  v1::CheckResponse Check(const v1::CheckRequest& request, Timeout timeout = {});
  // Judges a single text by the server's default policy.
  v1::CheckResponse CheckText(const std::string& text, Timeout timeout = {});
  // Judges several contents; the results are in the order of the requests.
  std::vector<Result> CheckBatch(const std::vector<v1::CheckRequest>& requests, Timeout timeout = {});
  // Judges contents as they come, for ever unless there is a timeout.
  cascade::CheckStream CheckStream(Timeout timeout = {});
  // Judges one generation while it is written, for ever unless there is a timeout.
  cascade::ModerateStream ModerateStream(Timeout timeout = {});
  // Whether a service, for instance "stage2", can answer; "" is the server as a whole. NOT_FOUND if there is none.
  bool Healthy(const std::string& service = "", Timeout timeout = {});

 private:
  std::unique_ptr<grpc::ClientContext> Context(Timeout timeout) const;

  Options options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CascadeService::Stub> cascade_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

}  // namespace cascade
