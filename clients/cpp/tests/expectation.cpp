// Compares what came with what a vector expects.
#include "expectation.h"

#include <sstream>

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

using google::protobuf::Struct;
using google::protobuf::Value;
using google::protobuf::util::MessageDifferencer;

const Value* Member(const Struct& object, const std::string& name) {
  const auto found = object.fields().find(name);
  return found == object.fields().end() ? nullptr : &found->second;
}

const Value* At(const Value& value, const std::string& path) {
  const Value* found = &value;
  std::istringstream steps(path);
  for (std::string step; found && std::getline(steps, step, '.');) {
    if (found->has_struct_value()) {
      found = Member(found->struct_value(), step);
    } else if (found->has_list_value() && std::stoi(step) < found->list_value().values_size()) {
      found = &found->list_value().values(std::stoi(step));
    } else {
      found = nullptr;
    }
  }
  return found;
}

namespace {

bool IsDefault(const Value* value) {
  if (!value) return true;
  switch (value->kind_case()) {
    case Value::kBoolValue:
      return !value->bool_value();
    case Value::kNumberValue:
      return value->number_value() == 0;
    case Value::kStringValue:
      return value->string_value().empty();
    case Value::kListValue:
      return value->list_value().values().empty();
    default:
      return false;
  }
}

std::string Name(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case grpc::StatusCode::NOT_FOUND:
      return "NOT_FOUND";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "UNAUTHENTICATED";
    case grpc::StatusCode::PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    default:
      return "code " + std::to_string(code);
  }
}

}  // namespace

std::vector<Expectation> Expectation::answers() const {
  std::vector<Expectation> answers;
  for (const auto& answer : wanted_.fields().at("answers").list_value().values()) {
    answers.emplace_back(answer.struct_value());
  }
  return answers;
}

void Expectation::Verify(const cascade::Result& result) const {
  if (!fails()) {
    Verify(result.response().verdict(), result.response());
  } else if (result.error()) {
    Verify(*result.error());
  } else {
    ADD_FAILURE() << "an answer came to " << result.request_id;
  }
}

void Expectation::Verify(const cascade::Error& error) const {
  EXPECT_EQ(Name(error.code()), wanted_.fields().at("code").string_value());
  const auto* reason = Member(wanted_, "reason");
  EXPECT_EQ(error.reason(), reason ? reason->string_value() : "");
  if (const auto* field = Member(wanted_, "field")) {
    ASSERT_FALSE(error.fields().empty());
    EXPECT_EQ(error.fields()[0].name, field->string_value());
  }
  if (const auto* metadata = Member(wanted_, "metadata")) {
    for (const auto& [name, value] : metadata->struct_value().fields()) {
      ASSERT_TRUE(error.metadata().count(name)) << name;
      EXPECT_EQ(error.metadata().at(name), value.string_value());
    }
  }
  if (const auto* retry = Member(wanted_, "retry")) EXPECT_EQ(error.retry_after().has_value(), retry->bool_value());
}

void Expectation::Verify(cascade::v1::Verdict verdict, const google::protobuf::Message& message) const {
  std::string written;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(message, &written).ok());
  Value answer;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(written, &answer).ok());
  if (const auto* wanted = Member(wanted_, "verdict")) {
    EXPECT_EQ(cascade::v1::Verdict_Name(verdict), wanted->string_value());
  }
  if (const auto* present = Member(wanted_, "present")) {
    for (const auto& path : present->list_value().values()) {
      EXPECT_FALSE(IsDefault(At(answer, path.string_value()))) << path.string_value() << " is absent";
    }
  }
  if (const auto* absent = Member(wanted_, "absent")) {
    for (const auto& path : absent->list_value().values()) {
      EXPECT_TRUE(IsDefault(At(answer, path.string_value()))) << path.string_value() << " is present";
    }
  }
  if (const auto* equal = Member(wanted_, "equal")) {
    for (const auto& [path, value] : equal->struct_value().fields()) {
      const auto* found = At(answer, path);
      ASSERT_TRUE(found) << path;
      EXPECT_TRUE(MessageDifferencer::Equals(*found, value)) << path << " is " << found->ShortDebugString();
    }
  }
}
