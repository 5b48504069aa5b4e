// What must come of a vector; clients/README.md tells what its members mean.
#pragma once

#include <string>
#include <vector>

#include <google/protobuf/struct.pb.h>

#include "cascade/client.h"

// The value that a path like "hazards.0.slug" leads to; nullptr where it leads nowhere.
const google::protobuf::Value* At(const google::protobuf::Value& value, const std::string& path);

// A member of an object; nullptr if there is none.
const google::protobuf::Value* Member(const google::protobuf::Struct& object, const std::string& name);

class Expectation {
 public:
  explicit Expectation(google::protobuf::Struct wanted) : wanted_(std::move(wanted)) {}

  bool fails() const { return wanted_.fields().contains("code"); }
  std::vector<Expectation> answers() const;

  void Verify(const cascade::Result& result) const;
  void Verify(const cascade::Error& error) const;
  void Verify(cascade::v1::Verdict verdict, const google::protobuf::Message& message) const;

 private:
  google::protobuf::Struct wanted_;
};
