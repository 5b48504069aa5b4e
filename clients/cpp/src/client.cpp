// The connection and the unary calls.
#include "cascade/client.h"

#include <regex>
#include <stdexcept>
#include <utility>

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "service_config.h"

namespace cascade {
namespace {

constexpr int kMaxAnswerBytes = 64 << 20;  // a batch of long explained answers is larger than gRPC's own 4 MB

bool IsLoopback(const std::string& address) {
  static const std::regex kLoopback(R"((localhost|127\.\d+\.\d+\.\d+|\[::1\]):\d+)");
  return std::regex_match(address, kLoopback);
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address, const Options& options) {
  if (!options.token.empty() && !options.tls && !IsLoopback(address)) {
    throw std::invalid_argument("cascade: a token is not sent without TLS to another machine");
  }
  if (!options.ca.empty() && !options.tls) {
    throw std::invalid_argument("cascade: authorities are given, but tls is off");
  }
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(options.service_config.empty() ? kServiceConfig : options.service_config);
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (options.tls) {
    grpc::SslCredentialsOptions trust;
    trust.pem_root_certs = options.ca;
    credentials = grpc::SslCredentials(trust);
  }
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

void Require(const grpc::Status& status) {
  if (!status.ok()) throw Error(status);
}

}  // namespace

Client::Client(const std::string& address, Options options)
    : options_(std::move(options)),
      channel_(Connect(address, options_)),
      cascade_(v1::CascadeService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

v1::CheckResponse Client::Check(const v1::CheckRequest& request, Timeout timeout) {
  v1::CheckResponse response;
  Require(cascade_->Check(Context(timeout.value_or(options_.timeout)).get(), request, &response));
  return response;
}

v1::CheckResponse Client::CheckText(const std::string& text, Timeout timeout) {
  v1::CheckRequest request;
  request.set_text(text);
  return Check(request, timeout);
}

std::vector<Result> Client::CheckBatch(const std::vector<v1::CheckRequest>& requests, Timeout timeout) {
  v1::BatchCheckRequest batch;
  for (const auto& request : requests) *batch.add_requests() = request;
  v1::BatchCheckResponse response;
  Require(cascade_->BatchCheck(Context(timeout.value_or(options_.timeout)).get(), batch, &response));
  std::vector<Result> results;
  for (auto& item : *response.mutable_items()) {
    if (item.has_error()) {
      results.push_back({item.request_id(), Error(item.error())});
    } else {
      results.push_back({item.request_id(), std::move(*item.mutable_response())});
    }
  }
  return results;
}

cascade::CheckStream Client::CheckStream(Timeout timeout) {
  auto context = Context(timeout);
  auto call = cascade_->CheckStream(context.get());
  return {std::move(context), std::move(call)};
}

cascade::ModerateStream Client::ModerateStream(Timeout timeout) {
  auto context = Context(timeout);
  auto call = cascade_->ModerateStream(context.get());
  return {std::move(context), std::move(call)};
}

bool Client::Healthy(const std::string& service, Timeout timeout) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  Require(health_->Check(Context(timeout.value_or(options_.timeout)).get(), request, &response));
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

std::unique_ptr<grpc::ClientContext> Client::Context(Timeout timeout) const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (timeout) context->set_deadline(std::chrono::system_clock::now() + *timeout);
  // Metadata and not call credentials, which gRPC refuses on a plain connection, a loopback one too.
  if (!options_.token.empty()) context->AddMetadata("authorization", "Bearer " + options_.token);
  return context;
}

}  // namespace cascade
