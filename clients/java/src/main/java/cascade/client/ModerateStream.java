package cascade.client;

import cascade.v1.CascadeServiceOuterClass.ModerateEnd;
import cascade.v1.CascadeServiceOuterClass.ModerateStart;
import cascade.v1.CascadeServiceOuterClass.ModerateStreamRequest;
import cascade.v1.CascadeServiceOuterClass.ModerateStreamResponse;
import java.util.Optional;

/**
 * Judges one generation while it is written: start, then delta for each piece, then end. Closing it cancels what is
 * under way.
 */
public final class ModerateStream extends OpenCall<ModerateStreamRequest, ModerateStreamResponse> {
    ModerateStream() {}

    /** Opens the generation. False, of delta and end too, if the stream is over, as after a block. */
    public boolean start(ModerateStart start) throws InterruptedException {
        return write(ModerateStreamRequest.newBuilder().setStart(start).build());
    }

    /** Sends the next piece of the generation. */
    public boolean delta(String text) throws InterruptedException {
        return write(ModerateStreamRequest.newBuilder().setDelta(text).build());
    }

    /** Says that the generation is complete: what is left is judged. */
    public boolean end() throws InterruptedException {
        var end = ModerateEnd.getDefaultInstance();
        var open = write(ModerateStreamRequest.newBuilder().setEnd(end).build());
        endWriting();
        return open;
    }

    /** The next state of the generation; none after the final one. */
    public Optional<ModerateStreamResponse> receive() throws InterruptedException {
        return read();
    }
}
