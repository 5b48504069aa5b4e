package cascade.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import cascade.v1.Check.Verdict;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import java.util.ArrayList;
import java.util.List;

/** What must come of a vector; clients/README.md tells what its members mean. */
record Expectation(JsonObject wanted) {
    boolean fails() {
        return wanted.has("code");
    }

    /** One of several answers. */
    List<Expectation> answers() {
        var answers = new ArrayList<Expectation>();
        wanted.getAsJsonArray("answers").forEach(answer -> answers.add(new Expectation(answer.getAsJsonObject())));
        return answers;
    }

    void verify(Result result) throws InvalidProtocolBufferException {
        if (fails()) {
            verify(result.error().orElse(null));
        } else {
            verify(result.orThrow().getVerdict(), result.orThrow());
        }
    }

    void verify(Throwable thrown) {
        var error = assertInstanceOf(CascadeException.class, thrown);
        assertEquals(wanted.get("code").getAsString(), error.code().name());
        assertEquals(wanted.has("reason") ? wanted.get("reason").getAsString() : "", error.reason());
        if (wanted.has("field")) {
            assertEquals(wanted.get("field").getAsString(), error.fields().get(0).name());
        }
        if (wanted.has("metadata")) {
            wanted.getAsJsonObject("metadata").entrySet().forEach(member ->
                    assertEquals(member.getValue().getAsString(), error.metadata().get(member.getKey())));
        }
        if (wanted.has("retry")) {
            assertEquals(wanted.get("retry").getAsBoolean(), error.retryAfter().isPresent());
        }
    }

    void verify(Verdict verdict, MessageOrBuilder message) throws InvalidProtocolBufferException {
        var answer = JsonParser.parseString(JsonFormat.printer().print(message));
        if (wanted.has("verdict")) {
            assertEquals(wanted.get("verdict").getAsString(), verdict.name());
        }
        if (wanted.has("present")) {
            wanted.getAsJsonArray("present").forEach(path ->
                    assertFalse(isDefault(at(answer, path.getAsString())), path.getAsString()));
        }
        if (wanted.has("absent")) {
            wanted.getAsJsonArray("absent").forEach(path ->
                    assertTrue(isDefault(at(answer, path.getAsString())), path.getAsString()));
        }
        if (wanted.has("equal")) {
            wanted.getAsJsonObject("equal").entrySet().forEach(member ->
                    assertEquals(member.getValue(), at(answer, member.getKey()), member.getKey()));
        }
    }

    /** Walks a path like "hazards.0.slug"; null where it leads nowhere. */
    private static JsonElement at(JsonElement value, String path) {
        for (String step : path.split("\\.")) {
            if (value == null) {
                return null;
            } else if (value.isJsonObject()) {
                value = value.getAsJsonObject().get(step);
            } else if (value.isJsonArray() && Integer.parseInt(step) < value.getAsJsonArray().size()) {
                value = value.getAsJsonArray().get(Integer.parseInt(step));
            } else {
                return null;
            }
        }
        return value;
    }

    private static boolean isDefault(JsonElement value) {
        if (value == null) {
            return true;
        }
        if (value.isJsonArray()) {
            return value.getAsJsonArray().isEmpty();
        }
        if (!value.isJsonPrimitive()) {
            return false;
        }
        var primitive = value.getAsJsonPrimitive();
        return primitive.isBoolean() ? !primitive.getAsBoolean()
                : primitive.isNumber() ? primitive.getAsDouble() == 0 : primitive.getAsString().isEmpty();
    }
}
