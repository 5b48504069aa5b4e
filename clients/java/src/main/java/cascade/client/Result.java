package cascade.client;

import cascade.v1.CascadeServiceOuterClass.BatchCheckItem;
import cascade.v1.CascadeServiceOuterClass.CheckStreamResponse;
import cascade.v1.Check.CheckResponse;
import java.util.Optional;

/**
 * What became of one content of a batch or a stream: an answer or an error.
 *
 * @param requestId the request's id
 * @param answer    the answer, if there is one
 * @param error     why there is none
 */
public record Result(String requestId, Optional<CheckResponse> answer, Optional<CascadeException> error) {
    static Result of(BatchCheckItem item) {
        return item.hasError()
                ? new Result(item.getRequestId(), Optional.empty(), Optional.of(CascadeException.of(item.getError())))
                : new Result(item.getRequestId(), Optional.of(item.getResponse()), Optional.empty());
    }

    static Result of(CheckStreamResponse item) {
        return item.hasError()
                ? new Result(item.getRequestId(), Optional.empty(), Optional.of(CascadeException.of(item.getError())))
                : new Result(item.getRequestId(), Optional.of(item.getResponse()), Optional.empty());
    }

    /** The answer; throws the error if there is none. */
    public CheckResponse orThrow() {
        return answer.orElseThrow(() -> error.orElseThrow());
    }
}
