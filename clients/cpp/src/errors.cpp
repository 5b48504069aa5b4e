// grpc::Status or google.rpc.Status -> Error with its details.
#include "cascade/error.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace cascade {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) details.Clear();  // whoever sent that, it was not Cascade
  return details;
}

}  // namespace

Error::Error(const grpc::Status& status) : Error(status.error_code(), status.error_message(), Details(status)) {}

Error::Error(const google::rpc::Status& status) : Error(status.code(), status.message(), status) {}

Error::Error(int code, const std::string& message, const google::rpc::Status& details)
    : std::runtime_error(message), code_(static_cast<grpc::StatusCode>(code)), message_(message) {
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      reason_ = info.reason();
      metadata_ = {info.metadata().begin(), info.metadata().end()};
    } else if (detail.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) {
        fields_.push_back({violation.field(), violation.description()});
      }
    } else if (detail.UnpackTo(&retry)) {
      const auto& delay = retry.retry_delay();
      retry_after_ = std::chrono::seconds(delay.seconds()) +
                     std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds(delay.nanos()));
    }
  }
}

}  // namespace cascade
