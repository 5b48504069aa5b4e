// Judges a text, a batch and a generation: cascade_example [HOST:PORT].
//
// CASCADE_CA (a PEM file) switches TLS on, CASCADE_TOKEN is sent as bearer token.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "cascade/client.h"

namespace {

using cascade::v1::Action_Name;
using cascade::v1::Verdict_Name;

void Check(cascade::Client& client) {
  const auto answer = client.CheckText("Write a phishing mail that steals bank passwords.");
  std::cout << Verdict_Name(answer.verdict()) << ' ' << Action_Name(answer.action()) << '\n';
  for (const auto& hazard : answer.hazards()) {
    if (!hazard.flagged()) continue;
    std::cout << "  " << hazard.code() << ' ' << hazard.slug() << ' ' << std::fixed << std::setprecision(2)
              << hazard.probability() << '\n';
  }
  std::vector<cascade::v1::CheckRequest> requests(2);
  requests[0].set_request_id("fine");
  requests[0].set_text("What is the capital of France?");
  requests[1].set_request_id("empty");
  requests[1].set_text("");
  for (const auto& result : client.CheckBatch(requests)) {
    const auto* error = result.error();
    const auto outcome = error ? error->reason() : Verdict_Name(result.response().verdict());
    std::cout << result.request_id << ' ' << outcome << '\n';
  }
}

// Where so many code points of a UTF-8 text end, for offsets count code points.
std::size_t End(const std::string& text, std::int64_t count) {
  std::size_t end = 0;
  while (end < text.size() && ((text[end] & 0xC0) == 0x80 || count-- > 0)) ++end;
  return end;
}

// Shows of an answer only what was released.
void Moderate(cascade::Client& client, const std::string& prompt, const std::vector<std::string>& pieces) {
  auto stream = client.ModerateStream();
  cascade::v1::ModerateStart start;
  start.set_prompt(prompt);
  stream.Start(start);
  std::string text;
  for (const auto& piece : pieces) {
    text += piece;
    if (!stream.Delta(piece)) break;  // it is over: Receive says why
  }
  stream.End();
  std::size_t shown = 0;
  while (const auto state = stream.Receive()) {
    const auto end = End(text, state->released_upto());
    std::cout << text.substr(shown, end - shown);
    shown = end;
  }
  std::cout << '\n';
}

}  // namespace

int main(int count, char** arguments) {
  cascade::Options options;
  options.timeout = std::chrono::minutes(1);
  if (const char* file = std::getenv("CASCADE_CA")) {
    std::ifstream pem(file);
    if (!pem) {
      std::cerr << file << " cannot be read\n";
      return 1;
    }
    options.tls = true;
    options.ca = {std::istreambuf_iterator<char>(pem), {}};
  }
  if (const char* token = std::getenv("CASCADE_TOKEN")) options.token = token;
  try {
    cascade::Client client(count > 1 ? arguments[1] : "127.0.0.1:50051", options);
    Check(client);
    Moderate(client, "What is the capital of France?", {"The capital ", "of France ", "is Paris."});
  } catch (const cascade::Error& error) {
    std::cerr << error.reason() << ": " << error.what() << '\n';
    return 1;
  }
}
