package cascade.client;

import cascade.v1.CascadeServiceOuterClass.CheckStreamRequest;
import cascade.v1.CascadeServiceOuterClass.CheckStreamResponse;
import cascade.v1.Check.CheckRequest;
import java.util.Optional;

/**
 * Judges contents as they come. Send and receive in two threads: a server that waits for its answers to be read takes
 * no further contents. Closing it cancels what is under way.
 */
public final class CheckStream extends OpenCall<CheckStreamRequest, CheckStreamResponse> {
    CheckStream() {}

    /** Sends one content; give each a request id of its own. False if the stream is over: receive tells why. */
    public boolean send(CheckRequest request) throws InterruptedException {
        return write(CheckStreamRequest.newBuilder().setRequest(request).build());
    }

    /** Says that there are no more contents. */
    public void end() {
        endWriting();
    }

    /** The next answer, in any order; none after the last one. */
    public Optional<Result> receive() throws InterruptedException {
        return read().map(Result::of);
    }
}
