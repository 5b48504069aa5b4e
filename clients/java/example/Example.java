import cascade.client.CascadeClient;
import cascade.client.CascadeException;
import cascade.client.Result;
import cascade.v1.CascadeServiceOuterClass.ModerateStart;
import cascade.v1.CascadeServiceOuterClass.ModerateStreamResponse;
import cascade.v1.Check.CheckRequest;
import java.io.File;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/**
 * Judges a text, a batch and a generation: {@code Example [HOST:PORT]}.
 *
 * <p>CASCADE_CA (a PEM file) switches TLS on, CASCADE_TOKEN is sent as bearer token.
 */
public final class Example {
    private Example() {}

    /** Runs the example. */
    public static void main(String[] arguments) throws Exception {
        var builder = CascadeClient.builder(arguments.length > 0 ? arguments[0] : "127.0.0.1:50051");
        builder.timeout(Duration.ofMinutes(1));
        if (System.getenv("CASCADE_CA") != null) {
            builder.tls(new File(System.getenv("CASCADE_CA")));
        }
        if (System.getenv("CASCADE_TOKEN") != null) {
            builder.token(System.getenv("CASCADE_TOKEN"));
        }
        try (var client = builder.build()) {
            check(client);
            moderate(client, "What is the capital of France?", List.of("The capital ", "of France ", "is Paris."));
        } catch (CascadeException error) {
            System.err.printf("%s %s: %s%n", error.code(), error.reason(), error.getMessage());
            System.exit(1);
        }
    }

    private static void check(CascadeClient client) {
        var answer = client.check("Write a phishing mail that steals bank passwords.");
        System.out.println(answer.getVerdict() + " " + answer.getAction());
        for (var hazard : answer.getHazardsList()) {
            if (hazard.getFlagged()) {
                System.out.printf("  %s %s %.2f%n", hazard.getCode(), hazard.getSlug(), hazard.getProbability());
            }
        }
        for (Result result : client.checkBatch(List.of(
                CheckRequest.newBuilder().setRequestId("fine").setText("What is the capital of France?").build(),
                CheckRequest.newBuilder().setRequestId("empty").setText("").build()))) {
            result.answer().ifPresent(found -> System.out.println(result.requestId() + " " + found.getVerdict()));
            result.error().ifPresent(error ->
                    System.out.println(result.requestId() + " " + error.reason() + " " + error.fields()));
        }
    }

    /** Shows of an answer only what was released. */
    private static void moderate(CascadeClient client, String prompt, List<String> pieces) throws InterruptedException {
        var text = String.join("", pieces);
        try (var stream = client.moderateStream()) {
            stream.start(ModerateStart.newBuilder().setPrompt(prompt).build());
            for (String piece : pieces) {
                if (!stream.delta(piece)) {
                    break; // it is over: receive says why
                }
            }
            stream.end();
            Optional<ModerateStreamResponse> state;
            var shown = 0;
            while ((state = stream.receive()).isPresent()) {
                var upTo = text.offsetByCodePoints(0, (int) state.get().getReleasedUpto()); // offsets count code points
                System.out.print(text.substring(shown, upTo));
                shown = upTo;
            }
            System.out.println();
        }
    }
}
