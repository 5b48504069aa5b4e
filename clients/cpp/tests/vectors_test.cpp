// clients/vectors.json against live servers: CASCADE_TEST_PLAIN, CASCADE_TEST_SECURE.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "cascade/client.h"
#include "expectation.h"

namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;

constexpr std::chrono::seconds kPatience(60);  // the machine may be busy
constexpr int kMany = 100;

std::string Read(const std::string& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

template <typename Message>
Message Parse(const google::protobuf::Message& written) {
  std::string json;
  Message message;
  EXPECT_TRUE(google::protobuf::util::MessageToJsonString(written, &json).ok());
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &message).ok()) << json;
  return message;
}

// A server that the vectors run against.
struct Target {
  std::string address;
  cascade::Options options;

  cascade::Client Connect() const { return cascade::Client(address, options); }
};

std::map<std::string, Target> Targets() {
  std::map<std::string, Target> targets;
  if (const char* address = std::getenv("CASCADE_TEST_PLAIN")) {
    targets["plain"] = {address, {}};
  }
  if (const char* address = std::getenv("CASCADE_TEST_SECURE")) {
    auto& target = targets["secure"] = {address, {}};
    target.options.tls = true;
    target.options.ca = Read(std::getenv("CASCADE_TEST_CA"));
    target.options.token = std::getenv("CASCADE_TEST_TOKEN");
  }
  for (auto& [name, target] : targets) target.options.timeout = kPatience;
  return targets;
}

// The request with its repeated members as long as the vector says.
Struct Repeated(const Struct& vector) {
  Struct request = vector.fields().at("request").struct_value();
  const auto* repeat = Member(vector, "repeat");
  if (!repeat) return request;
  for (const auto& [name, times] : repeat->struct_value().fields()) {
    auto& member = (*request.mutable_fields())[name];
    const Value once = member;
    for (int i = 1; i < times.number_value(); ++i) {
      if (once.has_list_value()) {
        member.mutable_list_value()->MergeFrom(once.list_value());
      } else {
        member.mutable_string_value()->append(once.string_value());
      }
    }
  }
  return request;
}

// The results in the order of the requests.
std::vector<cascade::Result> CheckStream(const Struct& vector, cascade::Client& client) {
  auto stream = client.CheckStream(kPatience);
  std::map<std::string, cascade::Result> found;
  std::vector<std::string> order;
  for (const auto& message : vector.fields().at("request").list_value().values()) {
    const auto request = Parse<cascade::v1::CheckStreamRequest>(message).request();
    order.push_back(request.request_id());
    stream.Send(request);
  }
  stream.CloseSend();
  while (auto result = stream.Receive()) found.emplace(result->request_id, *result);
  EXPECT_EQ(found.size(), order.size());
  std::vector<cascade::Result> results;
  for (const auto& id : order) results.push_back(found.at(id));
  return results;
}

// The last state.
cascade::v1::ModerateStreamResponse ModerateStream(const Struct& vector, cascade::Client& client) {
  auto stream = client.ModerateStream(kPatience);
  for (const auto& message : vector.fields().at("request").list_value().values()) {
    const auto request = Parse<cascade::v1::ModerateStreamRequest>(message);
    if (request.has_start()) {
      stream.Start(request.start());
    } else if (request.has_end()) {
      stream.End();
    } else {
      stream.Delta(request.delta());
    }
  }
  cascade::v1::ModerateStreamResponse last;
  while (auto state = stream.Receive()) last = *state;
  return last;
}

void Verify(const Expectation& expected, const std::vector<cascade::Result>& results) {
  const auto answers = expected.answers();
  ASSERT_EQ(results.size(), answers.size());
  for (std::size_t place = 0; place < results.size(); ++place) answers[place].Verify(results[place]);
}

void Ask(const Struct& vector, const Expectation& expected, cascade::Client& client) {
  const auto& rpc = vector.fields().at("rpc").string_value();
  if (rpc == "Check") {
    const auto answer = client.Check(Parse<cascade::v1::CheckRequest>(Repeated(vector)));
    if (!expected.fails()) expected.Verify(answer.verdict(), answer);
  } else if (rpc == "BatchCheck") {
    const auto batch = Parse<cascade::v1::BatchCheckRequest>(Repeated(vector));
    const auto results = client.CheckBatch({batch.requests().begin(), batch.requests().end()});
    if (!expected.fails()) Verify(expected, results);
  } else if (rpc == "CheckStream") {
    const auto results = CheckStream(vector, client);
    if (!expected.fails()) Verify(expected, results);
  } else if (rpc == "ModerateStream") {
    const auto state = ModerateStream(vector, client);
    if (!expected.fails()) expected.Verify(state.verdict().verdict(), state);
  } else {
    FAIL() << "no such call: " << rpc;
  }
  EXPECT_FALSE(expected.fails()) << "an answer came";
}

TEST(Vectors, All) {
  const auto targets = Targets();
  if (targets.empty()) GTEST_SKIP() << "no server: run-tests HOST:PORT gives one";
  ListValue vectors;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(Read(VECTORS), &vectors).ok());
  ASSERT_GT(vectors.values_size(), 0);
  for (const auto& [name, target] : targets) {
    int count = 0;
    for (const auto& element : vectors.values()) {
      const auto& vector = element.struct_value();
      SCOPED_TRACE(name + ": " + vector.fields().at("name").string_value());
      auto caller = target;
      if (const auto* token = Member(vector, "token")) {
        if (!caller.options.tls) continue;
        caller.options.token = token->string_value();
      }
      ++count;
      const Expectation expected(vector.fields().at("expect").struct_value());
      try {
        auto client = caller.Connect();
        Ask(vector, expected, client);
      } catch (const cascade::Error& error) {
        if (expected.fails()) {
          expected.Verify(error);
        } else {
          ADD_FAILURE() << error.reason() << ": " << error.what();
        }
      }
    }
    std::cout << count << " vectors against the " << name << " server\n";
  }
}

TEST(Streams, AreSentAndReadAtOnce) {
  const auto targets = Targets();
  if (targets.empty()) GTEST_SKIP() << "no server: run-tests HOST:PORT gives one";
  for (const auto& [name, target] : targets) {
    auto client = target.Connect();
    auto stream = client.CheckStream(kPatience);
    std::thread sender([&stream] {
      cascade::v1::CheckRequest request;
      request.set_text("What is the capital of France?");
      for (int i = 0; i < kMany; ++i) {
        request.set_request_id(std::to_string(i));
        EXPECT_TRUE(stream.Send(request));
      }
      stream.CloseSend();
    });
    std::set<std::string> answered;
    try {
      while (const auto result = stream.Receive()) {
        EXPECT_FALSE(result->error());
        answered.insert(result->request_id);
      }
    } catch (const cascade::Error& error) {
      ADD_FAILURE() << error.reason() << ": " << error.what();  // the stream is over, so that the sender ends, too
    }
    sender.join();
    EXPECT_EQ(answered.size(), kMany);
  }
}

TEST(Streams, EndWhenTheyAreCancelledOrDestroyed) {
  const auto targets = Targets();
  if (targets.empty()) GTEST_SKIP() << "no server: run-tests HOST:PORT gives one";
  for (const auto& [name, target] : targets) {
    auto client = target.Connect();
    cascade::v1::ModerateStart start;
    start.set_prompt("Hello.");
    auto destroyed = client.ModerateStream();
    EXPECT_TRUE(destroyed.Start(start));
    auto stream = client.ModerateStream();
    EXPECT_TRUE(stream.Start(start));
    stream.Cancel();
    try {
      while (stream.Receive()) continue;  // an answer to the prompt may have come before
      ADD_FAILURE() << "the stream has ended well";
    } catch (const cascade::Error& error) {
      EXPECT_EQ(error.code(), grpc::StatusCode::CANCELLED);
    }
  }
}

TEST(Health, OfServicesAndOfWhatIsNone) {
  const auto targets = Targets();
  if (targets.empty()) GTEST_SKIP() << "no server: run-tests HOST:PORT gives one";
  for (const auto& [name, target] : targets) {
    auto client = target.Connect();
    EXPECT_TRUE(client.Healthy());
    EXPECT_TRUE(client.Healthy("stage2"));
    try {
      client.Healthy("no-such-service");
      ADD_FAILURE() << "there is no such service";
    } catch (const cascade::Error& error) {
      EXPECT_EQ(error.code(), grpc::StatusCode::NOT_FOUND);
    }
  }
}

}  // namespace
