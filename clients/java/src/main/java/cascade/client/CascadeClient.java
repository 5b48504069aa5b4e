package cascade.client;

import cascade.v1.CascadeServiceGrpc;
import cascade.v1.CascadeServiceOuterClass.BatchCheckRequest;
import cascade.v1.Check.CheckRequest;
import cascade.v1.Check.CheckResponse;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.stub.AbstractStub;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * A connection to one server. It may be used by many threads.
 *
 * <pre>{@code
 * try (var client = CascadeClient.connect("127.0.0.1:50051")) {
 *     var answer = client.check("What is the capital of France?");
 * }
 * }</pre>
 *
 * <p>Every call that fails throws a {@link CascadeException}.
 */
public final class CascadeClient implements AutoCloseable {
    private final ManagedChannel channel;
    private final Duration timeout;
    private final CascadeServiceGrpc.CascadeServiceBlockingStub cascade;
    private final CascadeServiceGrpc.CascadeServiceStub streams;
    private final HealthGrpc.HealthBlockingStub health;

    CascadeClient(ManagedChannel channel, Duration timeout) {
        this.channel = channel;
        this.timeout = timeout;
        cascade = CascadeServiceGrpc.newBlockingStub(channel);
        streams = CascadeServiceGrpc.newStub(channel);
        health = HealthGrpc.newBlockingStub(channel);
    }

    /** A client of the server at {@code "HOST:PORT"}, without TLS and token; the first call makes the connection. */
    public static CascadeClient connect(String address) {
        return builder(address).build();
    }

    /** A builder for a client with TLS, a token or another deadline. */
    public static CascadeClientBuilder builder(String address) {
        return new CascadeClientBuilder(address);
    }

    /** Judges a single text by the server's default policy. */
    public CheckResponse check(String text) {
        return check(CheckRequest.newBuilder().setText(text).build());
    }

    /** Judges one content. */
    public CheckResponse check(CheckRequest request) {
        return check(request, timeout);
    }

    /** Judges one content within a time of its own. */
    public CheckResponse check(CheckRequest request, Duration timeout) {
        return called(() -> within(cascade, timeout).check(request));
    }

    /** Judges several contents; the results are in the order of the requests. */
    public List<Result> checkBatch(List<CheckRequest> requests) {
        return checkBatch(requests, timeout);
    }

    /** Judges several contents within a time of its own. */
    public List<Result> checkBatch(List<CheckRequest> requests, Duration timeout) {
        var batch = BatchCheckRequest.newBuilder().addAllRequests(requests).build();
        var items = called(() -> within(cascade, timeout).batchCheck(batch)).getItemsList();
        return items.stream().map(Result::of).toList();
    }

    /** Judges contents as they come; it has no deadline. */
    public CheckStream checkStream() {
        var stream = new CheckStream();
        streams.checkStream(stream);
        return stream;
    }

    /** Judges contents as they come, for as long as the timeout at most. */
    public CheckStream checkStream(Duration timeout) {
        var stream = new CheckStream();
        within(streams, timeout).checkStream(stream);
        return stream;
    }

    /** Judges one generation while it is written; it has no deadline. */
    public ModerateStream moderateStream() {
        var stream = new ModerateStream();
        streams.moderateStream(stream);
        return stream;
    }

    /** Judges one generation while it is written, for as long as the timeout at most. */
    public ModerateStream moderateStream(Duration timeout) {
        var stream = new ModerateStream();
        within(streams, timeout).moderateStream(stream);
        return stream;
    }

    /** Whether the server as a whole can answer. */
    public boolean healthy() {
        return healthy("");
    }

    /** Whether a service, for instance {@code "stage2"}, can answer; NOT_FOUND if there is none of that name. */
    public boolean healthy(String service) {
        var request = HealthCheckRequest.newBuilder().setService(service).build();
        return called(() -> within(health, timeout).check(request)).getStatus() == ServingStatus.SERVING;
    }

    /** Ends the connection and all calls under way. */
    @Override
    public void close() {
        channel.shutdownNow();
    }

    private static <S extends AbstractStub<S>> S within(S stub, Duration timeout) {
        return stub.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
    }

    private static <T> T called(Supplier<T> call) {
        try {
            return call.get();
        } catch (StatusRuntimeException error) {
            throw CascadeException.of(error);
        }
    }
}
