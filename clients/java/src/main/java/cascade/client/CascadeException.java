package cascade.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Why a call, or one item of it, got no answer. The message is for people, code and reason are for programs. */
public final class CascadeException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** A field of the request that is wrong, and why. */
    public record Field(String name, String description) {}

    private final Status.Code code;
    private final transient com.google.rpc.Status status;

    private CascadeException(com.google.rpc.Status status, Throwable cause) {
        super(status.getMessage(), cause);
        this.status = status;
        code = Status.fromCodeValue(status.getCode()).getCode();
    }

    static CascadeException of(Throwable error) {
        var status = StatusProto.fromThrowable(error);
        if (status == null) { // no status was sent with it: the error has the code alone
            var found = Status.fromThrowable(error);
            var message = found.getDescription() == null ? "" : found.getDescription();
            status = com.google.rpc.Status.newBuilder().setCode(found.getCode().value()).setMessage(message).build();
        }
        return new CascadeException(status, error);
    }

    static CascadeException of(com.google.rpc.Status status) {
        return new CascadeException(status, null);
    }

    /** The gRPC code. */
    public Status.Code code() {
        return code;
    }

    /** Stable, for instance {@code "LIMIT_EXCEEDED"}; empty if the error is not the server's own. */
    public String reason() {
        return detail(ErrorInfo.class).map(ErrorInfo::getReason).orElse("");
    }

    /** What belongs to the reason, for instance the limit. */
    public Map<String, String> metadata() {
        return detail(ErrorInfo.class).map(ErrorInfo::getMetadataMap).orElse(Map.of());
    }

    /** Which fields of the request are wrong. */
    public List<Field> fields() {
        var fields = new ArrayList<Field>();
        detail(BadRequest.class).ifPresent(request -> request.getFieldViolationsList().forEach(
                violation -> fields.add(new Field(violation.getField(), violation.getDescription()))));
        return fields;
    }

    /** When a later try may succeed, if the server has said so. */
    public Optional<Duration> retryAfter() {
        return detail(RetryInfo.class).map(RetryInfo::getRetryDelay)
                .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
    }

    private <T extends com.google.protobuf.Message> Optional<T> detail(Class<T> kind) {
        for (Any detail : status.getDetailsList()) {
            if (detail.is(kind)) {
                try {
                    return Optional.of(detail.unpack(kind));
                } catch (InvalidProtocolBufferException error) {
                    throw new IllegalStateException("the details of an error cannot be read", error);
                }
            }
        }
        return Optional.empty();
    }
}
