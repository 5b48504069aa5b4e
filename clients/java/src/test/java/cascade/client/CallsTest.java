package cascade.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import cascade.v1.CascadeServiceGrpc;
import cascade.v1.Check.CheckRequest;
import cascade.v1.Check.CheckResponse;
import io.grpc.BindableService;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What a client does by itself: repeats, gives up in time, keeps its token. */
class CallsTest {
    private static final Metadata.Key<String> PUSHBACK =
            Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

    private final AtomicInteger calls = new AtomicInteger();
    private Server server;

    @AfterEach
    void stop() {
        if (server != null) {
            server.shutdownNow();
        }
    }

    /** A server that refuses the first calls and answers the rest. */
    private String serving(int refused, Status status, String pushback) throws IOException {
        BindableService service = new CascadeServiceGrpc.CascadeServiceImplBase() {
            @Override
            public void check(CheckRequest request, StreamObserver<CheckResponse> answers) {
                if (calls.incrementAndGet() <= refused) {
                    var trailers = new Metadata();
                    if (pushback != null) { // which grpc-java follows whatever the code is
                        trailers.put(PUSHBACK, pushback);
                    }
                    answers.onError(status.asRuntimeException(trailers));
                } else if (!request.getText().equals("hang")) {
                    answers.onNext(CheckResponse.newBuilder().setRequestId(request.getRequestId()).build());
                    answers.onCompleted();
                }
            }
        };
        var builder = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create());
        server = builder.addService(service).build().start();
        return "127.0.0.1:" + server.getPort();
    }

    private static CascadeClient connect(String address) {
        return CascadeClient.builder(address).timeout(Duration.ofSeconds(60)).build();
    }

    @Test
    void whatIsUnavailableIsRepeated() throws IOException {
        try (var client = connect(serving(2, Status.UNAVAILABLE, "1"))) {
            assertEquals("", client.check("hello").getRequestId());
        }
        assertEquals(3, calls.get());
    }

    @Test
    void whatIsRefusedForGoodIsNot() throws IOException {
        try (var client = connect(serving(2, Status.RESOURCE_EXHAUSTED, "-1"))) {
            var error = assertThrows(CascadeException.class, () -> client.check("hello"));
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, error.code());
        }
        assertEquals(1, calls.get());
    }

    @Test
    void repeatingEndsAfterFiveTries() throws IOException {
        try (var client = connect(serving(100, Status.UNAVAILABLE, "1"))) {
            assertThrows(CascadeException.class, () -> client.check("hello"));
        }
        assertEquals(5, calls.get());
    }

    @Test
    void whatMayBeOurFaultIsNotRepeated() throws IOException {
        try (var client = connect(serving(2, Status.INTERNAL, null))) {
            assertThrows(CascadeException.class, () -> client.check("hello"));
        }
        assertEquals(1, calls.get());
    }

    @Test
    void whatTheCallersServiceConfigNamesIsRepeated() throws IOException {
        var builder = CascadeClient.builder(serving(2, Status.INTERNAL, null)).timeout(Duration.ofSeconds(60));
        var config = Files.readString(Path.of("..", "..", "deploy", "ray", "service-config.json"));
        try (var client = builder.serviceConfig(config).build()) {
            assertEquals("", client.check("hello").getRequestId());
        }
        assertEquals(3, calls.get());
        for (var json : new String[] {"", "[]", "{"}) {
            assertThrows(IllegalArgumentException.class, () -> builder.serviceConfig(json));
        }
    }

    @Test
    void aCallHasADeadline() throws IOException {
        try (var client = connect(serving(0, Status.OK, ""))) {
            var request = CheckRequest.newBuilder().setText("hang").build();
            var error = assertThrows(CascadeException.class, () -> client.check(request, Duration.ofMillis(200)));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
            assertEquals("", error.reason());
            assertFalse(error.retryAfter().isPresent());
        }
    }

    @Test
    void aTokenIsNotSentInTheClear() {
        var elsewhere = CascadeClient.builder("192.0.2.1:50051").token("secret");
        assertThrows(IllegalStateException.class, elsewhere::build);
        elsewhere.tls().build().close();
        CascadeClient.builder("127.0.0.1:50051").token("secret").build().close();
        CascadeClient.builder("[::1]:50051").token("secret").build().close();
    }
}
