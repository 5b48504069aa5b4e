// CheckStream and ModerateStream: texts that are judged as they come.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include "cascade/error.h"
#include "cascade/v1/cascade_service.grpc.pb.h"

namespace cascade {

// What became of one content of a batch or a stream: an answer or an error.
struct Result {
  std::string request_id;
  std::variant<v1::CheckResponse, Error> outcome;

  // The answer; throws the error if there is none.
  const v1::CheckResponse& response() const;
  // The error, or nullptr.
  const Error* error() const { return std::get_if<Error>(&outcome); }
};

// One open call; one thread may send while another receives. Destroying it cancels what is under way.
template <typename Request, typename Response>
class Stream {
 public:
  using Call = grpc::ClientReaderWriter<Request, Response>;

  Stream(std::unique_ptr<grpc::ClientContext> context, std::unique_ptr<Call> call)
      : context_(std::move(context)), call_(std::move(call)) {}
  Stream(Stream&&) = default;
  Stream& operator=(Stream&&) = delete;
  ~Stream() { Abandon(); }

  // Ends the call at once: Receive throws CANCELLED.
  void Cancel() { context_->TryCancel(); }

 protected:
  bool Write(const Request& message) { return call_->Write(message); }
  void WritesDone() { call_->WritesDone(); }

  // The next message; none at the end. Throws Error if the call has failed.
  std::optional<Response> Read() {
    Response message;
    if (call_->Read(&message)) return message;
    if (!finished_) {
      finished_ = true;
      status_ = call_->Finish();
    }
    if (!status_.ok()) throw Error(status_);
    return std::nullopt;
  }

 private:
  void Abandon() {
    if (!call_ || finished_) return;
    context_->TryCancel();
    Response ignored;
    while (call_->Read(&ignored)) {
    }
    call_->Finish();
  }

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Call> call_;
  grpc::Status status_;
  bool finished_ = false;
};

// Judges contents as they come. Send and Receive in two threads: a server that waits for its answers to be read takes
// no further contents.
class CheckStream : public Stream<v1::CheckStreamRequest, v1::CheckStreamResponse> {
 public:
  using Stream::Stream;

  // Sends one content; give each a request_id of its own. False if the stream is over: Receive tells why.
  bool Send(const v1::CheckRequest& request);
  // Says that there are no more contents.
  void CloseSend() { WritesDone(); }
  // The next answer, in any order; none after the last one.
  std::optional<Result> Receive();
};

// Judges one generation while it is written: Start, then Delta for each piece, then End.
class ModerateStream : public Stream<v1::ModerateStreamRequest, v1::ModerateStreamResponse> {
 public:
  using Stream::Stream;

  // Opens the generation. False, of Delta and End too, if the stream is over, as after a block.
  bool Start(const v1::ModerateStart& start);
  // Sends the next piece of the generation.
  bool Delta(const std::string& text);
  // Says that the generation is complete: what is left is judged.
  bool End();
  // The next state of the generation; none after the final one.
  std::optional<v1::ModerateStreamResponse> Receive() { return Read(); }
};

}  // namespace cascade
