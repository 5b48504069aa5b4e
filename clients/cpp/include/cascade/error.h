// Error: why a call, or one item of it, got no answer.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <grpcpp/support/status.h>

namespace google::rpc {
class Status;
}

namespace cascade {

// A field of the request that is wrong, and why.
struct Field {
  std::string name;
  std::string description;
};

// Thrown by every call that fails; what() is for people, reason() and code() for programs.
class Error : public std::runtime_error {
 public:
  explicit Error(const grpc::Status& status);
  explicit Error(const google::rpc::Status& status);

  grpc::StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // Stable, for instance "LIMIT_EXCEEDED"; empty if the error is not the server's own.
  const std::string& reason() const { return reason_; }
  // What belongs to the reason, for instance the limit.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Which fields of the request are wrong.
  const std::vector<Field>& fields() const { return fields_; }
  // When a later try may succeed, if the server has said so.
  std::optional<std::chrono::milliseconds> retry_after() const { return retry_after_; }

 private:
  Error(int code, const std::string& message, const google::rpc::Status& details);

  grpc::StatusCode code_;
  std::string message_;
  std::string reason_;
  std::map<std::string, std::string> metadata_;
  std::vector<Field> fields_;
  std::optional<std::chrono::milliseconds> retry_after_;
};

}  // namespace cascade
