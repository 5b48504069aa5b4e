package cascade.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import cascade.v1.CascadeServiceOuterClass.BatchCheckRequest;
import cascade.v1.CascadeServiceOuterClass.CheckStreamRequest;
import cascade.v1.CascadeServiceOuterClass.ModerateStart;
import cascade.v1.CascadeServiceOuterClass.ModerateStreamRequest;
import cascade.v1.CascadeServiceOuterClass.ModerateStreamResponse;
import cascade.v1.Check.CheckRequest;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** clients/vectors.json against live servers: CASCADE_TEST_PLAIN, CASCADE_TEST_SECURE. */
class VectorsTest {
    private static final Duration PATIENCE = Duration.ofSeconds(60); // the machine may be busy
    private static final int MANY = 100;

    /** A server that the vectors run against. */
    private record Target(String name, String address, String ca, String token) {
        CascadeClient connect(String token) throws IOException {
            var builder = CascadeClient.builder(address).timeout(PATIENCE).token(token);
            return (ca == null ? builder : builder.tls(new File(ca))).build();
        }
    }

    private static List<Target> targets() {
        var targets = new ArrayList<Target>();
        var environment = System.getenv();
        if (environment.containsKey("CASCADE_TEST_PLAIN")) {
            targets.add(new Target("plain", environment.get("CASCADE_TEST_PLAIN"), null, ""));
        }
        if (environment.containsKey("CASCADE_TEST_SECURE")) {
            targets.add(new Target("secure", environment.get("CASCADE_TEST_SECURE"), environment.get("CASCADE_TEST_CA"),
                    environment.get("CASCADE_TEST_TOKEN")));
        }
        assumeTrue(!targets.isEmpty(), "no server: run-tests HOST:PORT gives one");
        return targets;
    }

    @TestFactory
    List<DynamicTest> vectors() throws IOException {
        var vectors = JsonParser.parseString(Files.readString(Path.of("..", "vectors.json"))).getAsJsonArray();
        var tests = new ArrayList<DynamicTest>();
        for (Target target : targets()) {
            for (JsonElement element : vectors) {
                var vector = element.getAsJsonObject();
                if (vector.has("token") && target.ca == null) {
                    continue;
                }
                var token = vector.has("token") ? vector.get("token").getAsString() : target.token;
                var name = target.name + ": " + vector.get("name").getAsString();
                tests.add(DynamicTest.dynamicTest(name, () -> {
                    try (var client = target.connect(token)) {
                        run(vector, client);
                    }
                }));
            }
        }
        return tests;
    }

    @TestFactory
    List<DynamicTest> health() {
        return targets().stream().map(target -> DynamicTest.dynamicTest(target.name, () -> {
            try (var client = target.connect(target.token)) {
                assertTrue(client.healthy());
                assertTrue(client.healthy("stage2"));
                var error = assertThrows(CascadeException.class, () -> client.healthy("no-such-service"));
                assertEquals(io.grpc.Status.Code.NOT_FOUND, error.code());
            }
        })).toList();
    }

    @TestFactory
    List<DynamicTest> aStreamIsSentAndReadAtOnce() {
        return targets().stream().map(target -> DynamicTest.dynamicTest(target.name, () -> {
            var answered = new HashSet<String>();
            try (var client = target.connect(target.token); var stream = client.checkStream(PATIENCE)) {
                var sender = CompletableFuture.runAsync(() -> sendMany(stream));
                for (var result = stream.receive(); result.isPresent(); result = stream.receive()) {
                    assertTrue(result.get().orThrow().getHazardsCount() > 0);
                    answered.add(result.get().requestId());
                }
                sender.join();
            }
            assertEquals(MANY, answered.size());
        })).toList();
    }

    private static void sendMany(CheckStream stream) {
        try {
            for (int i = 0; i < MANY; i++) {
                var request = CheckRequest.newBuilder().setRequestId("" + i).setText("What is the capital of France?");
                assertTrue(stream.send(request.build()));
            }
            stream.end();
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    @TestFactory
    @SuppressWarnings("try") // it is closed twice: that is the test
    List<DynamicTest> aStreamThatIsClosedEnds() {
        return targets().stream().map(target -> DynamicTest.dynamicTest(target.name, () -> {
            try (var client = target.connect(target.token); var stream = client.moderateStream(PATIENCE)) {
                assertTrue(stream.start(ModerateStart.newBuilder().setPrompt("Hello.").build()));
                stream.close();
                var error = assertThrows(CascadeException.class, () -> {
                    while (stream.receive().isPresent()) {
                        continue; // an answer to the prompt may have come before
                    }
                });
                assertEquals(io.grpc.Status.Code.CANCELLED, error.code());
                assertFalse(stream.delta("more"));
            }
        })).toList();
    }

    private static void run(JsonObject vector, CascadeClient client) throws Exception {
        var expected = new Expectation(vector.getAsJsonObject("expect"));
        switch (vector.get("rpc").getAsString()) {
            case "Check" -> {
                var request = read(repeated(vector), CheckRequest.newBuilder()).build();
                if (expected.fails()) {
                    expected.verify(assertThrows(CascadeException.class, () -> client.check(request)));
                } else {
                    var answer = client.check(request);
                    expected.verify(answer.getVerdict(), answer);
                }
            }
            case "BatchCheck" -> {
                var requests = read(repeated(vector), BatchCheckRequest.newBuilder()).build().getRequestsList();
                verify(expected, () -> client.checkBatch(requests));
            }
            case "CheckStream" -> verify(expected, () -> checkStream(vector, client));
            case "ModerateStream" -> {
                if (expected.fails()) {
                    expected.verify(assertThrows(CascadeException.class, () -> moderateStream(vector, client)));
                } else {
                    var state = moderateStream(vector, client).orElseThrow();
                    expected.verify(state.getVerdict().getVerdict(), state);
                }
            }
            default -> throw new IllegalArgumentException("no such call: " + vector.get("rpc"));
        }
    }

    private interface Call {
        List<Result> results() throws Exception;
    }

    private static void verify(Expectation expected, Call call) throws Exception {
        if (expected.fails()) {
            expected.verify(assertThrows(CascadeException.class, call::results));
            return;
        }
        var results = call.results();
        var answers = expected.answers();
        assertEquals(answers.size(), results.size());
        for (int place = 0; place < results.size(); place++) {
            answers.get(place).verify(results.get(place));
        }
    }

    /** The results in the order of the requests. */
    private static List<Result> checkStream(JsonObject vector, CascadeClient client) throws Exception {
        var order = new ArrayList<String>();
        var results = new ArrayList<Result>();
        try (var stream = client.checkStream(PATIENCE)) {
            for (JsonElement message : vector.getAsJsonArray("request")) {
                var request = read(message, CheckStreamRequest.newBuilder()).build().getRequest();
                order.add(request.getRequestId());
                stream.send(request);
            }
            stream.end();
            for (var result = stream.receive(); result.isPresent(); result = stream.receive()) {
                results.add(result.get());
            }
        }
        results.sort((one, other) -> order.indexOf(one.requestId()) - order.indexOf(other.requestId()));
        return results;
    }

    /** The last state. */
    private static Optional<ModerateStreamResponse> moderateStream(JsonObject vector, CascadeClient client)
            throws Exception {
        Optional<ModerateStreamResponse> last = Optional.empty();
        try (var stream = client.moderateStream(PATIENCE)) {
            for (JsonElement message : vector.getAsJsonArray("request")) {
                var request = read(message, ModerateStreamRequest.newBuilder()).build();
                switch (request.getEventCase()) {
                    case START -> stream.start(request.getStart());
                    case DELTA -> stream.delta(request.getDelta());
                    case END -> stream.end();
                    default -> throw new IllegalArgumentException("a message without an event");
                }
            }
            for (var state = stream.receive(); state.isPresent(); state = stream.receive()) {
                last = state;
            }
        }
        return last;
    }

    /** The request with its repeated members as long as the vector says. */
    private static JsonElement repeated(JsonObject vector) {
        var request = vector.get("request").deepCopy().getAsJsonObject();
        if (vector.has("repeat")) {
            for (var entry : vector.getAsJsonObject("repeat").entrySet()) {
                var member = request.get(entry.getKey());
                var times = entry.getValue().getAsInt();
                if (member.isJsonArray()) {
                    var longer = new JsonArray();
                    for (int i = 0; i < times; i++) {
                        longer.addAll(member.getAsJsonArray());
                    }
                    request.add(entry.getKey(), longer);
                } else {
                    request.add(entry.getKey(), new JsonPrimitive(member.getAsString().repeat(times)));
                }
            }
        }
        return request;
    }

    private static <B extends Message.Builder> B read(JsonElement written, B builder)
            throws InvalidProtocolBufferException {
        JsonFormat.parser().merge(written.toString(), builder);
        return builder;
    }
}
