package cascade.client;

import com.google.gson.Gson;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.regex.Pattern;

/** How a {@link CascadeClient} connects and calls. */
public final class CascadeClientBuilder {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private static final Pattern LOOPBACK = Pattern.compile("(localhost|127\\.\\d+\\.\\d+\\.\\d+|\\[::1\\]):\\d+");
    private static final int MAX_ANSWER_BYTES = 64 << 20; // a batch of long explained answers exceeds gRPC's 4 MB

    private final String address;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private boolean encrypted;
    private String token = "";
    private Duration timeout = Duration.ofSeconds(10);
    private Map<String, ?> serviceConfig = parsed(shared());

    CascadeClientBuilder(String address) {
        this.address = address;
    }

    /** Encrypts the connection and trusts the system's authorities. */
    public CascadeClientBuilder tls() {
        return credentials(TlsChannelCredentials.create());
    }

    /** Encrypts the connection and trusts the authorities of a PEM file alone. */
    public CascadeClientBuilder tls(File authorities) throws IOException {
        return credentials(TlsChannelCredentials.newBuilder().trustManager(authorities).build());
    }

    /** Encrypts the connection as the credentials say, for instance with a certificate of the client's own. */
    public CascadeClientBuilder credentials(ChannelCredentials credentials) {
        this.credentials = credentials;
        encrypted = true;
        return this;
    }

    /** Sends a bearer token with each call. It needs TLS, unless the server is on a loopback address. */
    public CascadeClientBuilder token(String token) {
        this.token = token;
        return this;
    }

    /** Bounds each unary call that has no bound of its own; 10 s by default. */
    public CascadeClientBuilder timeout(Duration timeout) {
        this.timeout = timeout;
        return this;
    }

    /**
     * Repeats calls as a gRPC service config says, given as JSON, instead of as this package's own does.
     *
     * @throws IllegalArgumentException if it is no JSON object
     */
    public CascadeClientBuilder serviceConfig(String json) {
        serviceConfig = parsed(json);
        return this;
    }

    /**
     * Makes the client; the first call makes the connection.
     *
     * @throws IllegalStateException if a token would be sent in the clear to another machine
     */
    public CascadeClient build() {
        var channel = Grpc.newChannelBuilder(address, credentials)
                .defaultServiceConfig(serviceConfig)
                .enableRetry()
                .maxInboundMessageSize(MAX_ANSWER_BYTES);
        if (!token.isEmpty()) {
            if (!encrypted && !LOOPBACK.matcher(address).matches()) {
                throw new IllegalStateException("a token is not sent without TLS to another machine");
            }
            var headers = new Metadata();
            headers.put(AUTHORIZATION, "Bearer " + token);
            channel.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
        }
        return new CascadeClient(channel.build(), timeout);
    }

    /** clients/service-config.json, which the build puts beside the classes. */
    private static String shared() {
        try (var file = CascadeClientBuilder.class.getResourceAsStream("/service-config.json")) {
            return new String(file.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, ?> parsed(String json) {
        try {
            return new Gson().fromJson(JsonParser.parseString(json).getAsJsonObject(), Map.class);
        } catch (JsonParseException | IllegalStateException error) {
            throw new IllegalArgumentException("a service config is a JSON object", error);
        }
    }
}
