// What a client does by itself: repeats, gives up in time, keeps its token.
#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "cascade/client.h"

namespace {

// A server that refuses the first calls and answers the rest.
class Fake final : public cascade::v1::CascadeService::Service {
 public:
  Fake(int refused, grpc::StatusCode code, std::string pushback)
      : refused_(refused), code_(code), pushback_(std::move(pushback)) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~Fake() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status Check(grpc::ServerContext* context, const cascade::v1::CheckRequest* request,
                     cascade::v1::CheckResponse* response) override {
    if (++calls_ <= refused_) {
      context->AddTrailingMetadata("grpc-retry-pushback-ms", pushback_);
      return {code_, "refused"};
    }
    if (request->text() == "hang") {
      while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return {grpc::StatusCode::DEADLINE_EXCEEDED, "late"};  // it may overtake the caller's own clock
    }
    response->set_request_id(request->request_id());
    return grpc::Status::OK;
  }

  cascade::Client Connect(cascade::Options options = {}) const {
    options.timeout = std::chrono::seconds(60);
    return cascade::Client(address_, options);
  }
  int calls() const { return calls_; }

 private:
  const int refused_;
  const grpc::StatusCode code_;
  const std::string pushback_;
  std::atomic<int> calls_ = 0;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

TEST(Calls, WhatIsUnavailableIsRepeated) {
  const Fake server(2, grpc::StatusCode::UNAVAILABLE, "1");
  server.Connect().CheckText("hello");
  EXPECT_EQ(server.calls(), 3);
}

TEST(Calls, WhatIsRefusedForGoodIsNot) {
  const Fake server(2, grpc::StatusCode::RESOURCE_EXHAUSTED, "-1");
  EXPECT_THROW(server.Connect().CheckText("hello"), cascade::Error);
  EXPECT_EQ(server.calls(), 1);
}

TEST(Calls, RepeatingEndsAfterFiveTries) {
  const Fake server(100, grpc::StatusCode::UNAVAILABLE, "1");
  EXPECT_THROW(server.Connect().CheckText("hello"), cascade::Error);
  EXPECT_EQ(server.calls(), 5);
}

TEST(Calls, WhatMayBeOurFaultIsNotRepeated) {
  const Fake server(2, grpc::StatusCode::INTERNAL, "1");
  EXPECT_THROW(server.Connect().CheckText("hello"), cascade::Error);
  EXPECT_EQ(server.calls(), 1);
}

TEST(Calls, WhatTheCallersServiceConfigNamesIsRepeated) {
  const Fake server(2, grpc::StatusCode::INTERNAL, "1");
  std::ifstream file(RAY_CONFIG);
  cascade::Options options;
  options.service_config = {std::istreambuf_iterator<char>(file), {}};
  server.Connect(options).CheckText("hello");
  EXPECT_EQ(server.calls(), 3);
  options.service_config = "{";
  EXPECT_THROW(server.Connect(options).CheckText("hello"), cascade::Error);
  EXPECT_EQ(server.calls(), 3);
}

TEST(Calls, HaveADeadline) {
  const Fake server(0, grpc::StatusCode::OK, "");
  try {
    server.Connect().CheckText("hang", std::chrono::milliseconds(200));
    ADD_FAILURE() << "an answer came";
  } catch (const cascade::Error& error) {
    EXPECT_EQ(error.code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_EQ(error.reason(), "");
    EXPECT_FALSE(error.retry_after());
  }
}

TEST(Token, IsNotSentInTheClear) {
  cascade::Options options;
  options.token = "secret";
  EXPECT_THROW(cascade::Client("192.0.2.1:50051", options), std::invalid_argument);
  EXPECT_THROW(cascade::Client("127.example.com:50051", options), std::invalid_argument);
  EXPECT_NO_THROW(cascade::Client("127.0.0.1:50051", options));
  EXPECT_NO_THROW(cascade::Client("[::1]:50051", options));
  options.tls = true;
  EXPECT_NO_THROW(cascade::Client("192.0.2.1:50051", options));
}

TEST(Authorities, AreNotIgnored) {
  cascade::Options options;
  options.ca = "a certificate";
  EXPECT_THROW(cascade::Client("127.0.0.1:50051", options), std::invalid_argument);
}

}  // namespace
