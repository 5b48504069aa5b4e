// The messages of both streams.
#include "cascade/streams.h"

namespace cascade {

const v1::CheckResponse& Result::response() const {
  if (const Error* failure = error()) throw *failure;
  return std::get<v1::CheckResponse>(outcome);
}

bool CheckStream::Send(const v1::CheckRequest& request) {
  v1::CheckStreamRequest message;
  *message.mutable_request() = request;
  return Write(message);
}

std::optional<Result> CheckStream::Receive() {
  auto message = Read();
  if (!message) return std::nullopt;
  if (message->has_error()) return Result{message->request_id(), Error(message->error())};
  return Result{message->request_id(), std::move(*message->mutable_response())};
}

bool ModerateStream::Start(const v1::ModerateStart& start) {
  v1::ModerateStreamRequest message;
  *message.mutable_start() = start;
  return Write(message);
}

bool ModerateStream::Delta(const std::string& text) {
  v1::ModerateStreamRequest message;
  message.set_delta(text);
  return Write(message);
}

bool ModerateStream::End() {
  v1::ModerateStreamRequest message;
  message.mutable_end();
  const bool open = Write(message);
  WritesDone();
  return open;
}

}  // namespace cascade
