// Speaks Kafka's wire protocol for differential.py: JSON lines in, JSON lines out, Kafka's own classes in between.
//
// usage: java -cp 'judge-jars/*' Bridge.java
// A line in is {"id": n, "to": "host:port", "connection": "name", "wait": seconds, "client": "id", "api": "CREATE_TOPICS", "version": 7,
// "request": {…}} with the request as Kafka's JsonConverter classes know it; fields that are left out have Kafka's defaults, a field that
// no version knows is an error. Instead of "request" there may be "body": bytes (base64) that follow the header whatever they are. Then
// "api" may be a number, too, and "flexible" says whether the header ends with tagged fields.
// A connection on which no answer came in time is closed, unless "keep" is true.
// A line out is {"id": n} with one of "response", "bytes" (to "body", base64), "closed": true, "silent": true, "failed": "why not sent".
// Each connection has a thread: what is sent on it is sent in order, what is sent on others does not wait.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;

public class Bridge {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int ANSWER_BYTES_MAX = 64 << 20;

    public static void main(String[] args) throws Exception {
        Map<String, Line> lines = new HashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String text = in.readLine(); text != null; text = in.readLine()) {
            JsonNode ask = JSON.readTree(text);
            String key = ask.get("to").asText() + " " + ask.get("connection").asText();
            Line line = lines.computeIfAbsent(key, any -> new Line(ask.get("to").asText()));
            line.worker.submit(() -> say(ask, line));
        }
        System.exit(0);
    }

    private static void say(JsonNode ask, Line line) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            answer = line.answer(ask);
        } catch (SocketTimeoutException e) {
            if (!ask.path("keep").asBoolean()) {
                line.close(); // Kafka reads on only when it has answered.
            }
            answer.put("silent", true);
        } catch (EOFException | SocketException e) {
            line.close();
            answer.put("closed", true);
        } catch (Throwable e) {
            line.close();
            Throwable cause = e instanceof InvocationTargetException && e.getCause() != null ? e.getCause() : e;
            answer.put("failed", cause.toString());
        }
        answer.set("id", ask.get("id"));
        synchronized (System.out) {
            System.out.println(answer);
            System.out.flush();
        }
    }

    /** One connection; it is made again after it was closed. */
    private static final class Line {
        final ExecutorService worker = Executors.newSingleThreadExecutor();
        final String to;
        Socket socket;
        int correlation;

        Line(String to) {
            this.to = to;
        }

        void close() {
            try {
                if (socket != null) {
                    socket.close();
                }
            } catch (IOException ignored) {
                // It is gone either way.
            }
            socket = null;
        }

        ObjectNode answer(JsonNode ask) throws Exception {
            if (ask.has("close")) {
                close();
                return JSON.createObjectNode().put("closed", true);
            }
            boolean raw = ask.has("body");
            short version = (short) ask.get("version").asInt();
            ApiMessageType api = raw ? null : ApiMessageType.valueOf(ask.get("api").asText());
            byte[] body = raw ? ask.get("body").binaryValue() : encode(api, version, ask.get("request"));
            short key = raw ? (short) ask.get("api").asInt() : api.apiKey();
            short header = raw ? (short) (ask.get("flexible").asBoolean() ? 2 : 1) : api.requestHeaderVersion(version);
            send(key, version, header, ask.get("client").isNull() ? null : ask.get("client").asText(), body);
            byte[] frame = receive((int) (1000 * ask.get("wait").asDouble()));
            ObjectNode answer = JSON.createObjectNode();
            if (raw) {
                answer.put("bytes", Base64.getEncoder().encodeToString(frame));
            } else {
                answer.set("response", decode(api, version, frame));
            }
            return answer;
        }

        void send(short key, short version, short headerVersion, String client, byte[] body) throws Exception {
            if (socket == null) {
                int colon = to.lastIndexOf(':');
                socket = new Socket(to.substring(0, colon), Integer.parseInt(to.substring(colon + 1)));
                socket.setTcpNoDelay(true);
            }
            RequestHeaderData header = new RequestHeaderData().setRequestApiKey(key).setRequestApiVersion(version)
                .setCorrelationId(++correlation).setClientId(client);
            byte[] head = MessageUtil.toByteBufferAccessor(header, headerVersion).buffer().array();
            ByteBuffer frame = ByteBuffer.allocate(4 + head.length + body.length);
            frame.putInt(head.length + body.length).put(head).put(body);
            socket.getOutputStream().write(frame.array());
        }

        /** The frame after the correlation id. Answers to what was given up before are passed over. */
        byte[] receive(int wait) throws Exception {
            DataInputStream in = new DataInputStream(socket.getInputStream());
            while (true) {
                socket.setSoTimeout(Math.max(1, wait));
                int size = in.readInt();
                if (size < 4 || size > ANSWER_BYTES_MAX) {
                    throw new IllegalStateException("a frame of " + size + " bytes");
                }
                int found = in.readInt();
                byte[] rest = new byte[size - 4];
                in.readFully(rest);
                if (found == correlation) {
                    return rest;
                }
                if (found > correlation) {
                    throw new IllegalStateException("correlation id " + found + " in answer to " + correlation);
                }
            }
        }
    }

    // Requests

    private static byte[] encode(ApiMessageType api, short version, JsonNode given) throws Exception {
        Class<?> type = api.newRequest().getClass();
        JsonNode whole = fill(type, version, given, api.name());
        Message message = (Message) converter(type).getMethod("read", JsonNode.class, short.class).invoke(null, whole, version);
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    /** What was given, and Kafka's defaults for what was not. */
    private static JsonNode fill(Class<?> type, short version, JsonNode given, String where) throws Exception {
        if (given.isNull()) {
            return given;
        }
        ObjectNode whole = (ObjectNode) converter(type).getMethod("write", type, short.class, boolean.class)
            .invoke(null, type.getConstructor().newInstance(), version, true);
        for (Map.Entry<String, JsonNode> field : given.properties()) {
            Field of;
            try {
                of = type.getDeclaredField(field.getKey());
            } catch (NoSuchFieldException e) {
                throw new IllegalArgumentException(where + " has no field " + field.getKey());
            }
            if (!has(type, version, field.getKey())) {
                continue;
            }
            Class<?> inner = struct(of);
            JsonNode value = field.getValue();
            if (inner != null && value.isArray()) {
                ArrayNode all = JSON.createArrayNode();
                for (JsonNode element : value) {
                    all.add(fill(inner, version, element, where + "." + field.getKey()));
                }
                value = all;
            } else if (inner != null) {
                value = fill(inner, version, value, where + "." + field.getKey());
            }
            whole.set(field.getKey(), value);
        }
        return whole;
    }

    private static boolean has(Class<?> type, short version, String field) throws Exception {
        Schema schema = ((Schema[]) type.getField("SCHEMAS").get(null))[version];
        String name = field.replaceAll("([A-Z])", "_$1").toLowerCase();
        for (BoundField each : schema == null ? new BoundField[0] : schema.fields()) {
            if (each.def.name.equals(name) || each.def.type instanceof TaggedFields tagged
                && tagged.fields().values().stream().anyMatch(one -> one.name.equals(name))) {
                return true;
            }
        }
        return false;
    }

    /** The struct that a field is or has many of. */
    private static Class<?> struct(Field field) {
        if (Message.class.isAssignableFrom(field.getType())) {
            return field.getType();
        }
        for (Type type : new Type[] {field.getGenericType(), field.getType().getGenericSuperclass()}) {
            if (type instanceof ParameterizedType many && many.getActualTypeArguments()[0] instanceof Class<?> one
                && Message.class.isAssignableFrom(one)) {
                return one;
            }
        }
        return null;
    }

    private static Class<?> converter(Class<?> type) throws ClassNotFoundException {
        Class<?> outer = type.getDeclaringClass();
        return Class.forName(outer == null ? type.getName() + "JsonConverter"
            : outer.getName() + "JsonConverter$" + type.getSimpleName() + "JsonConverter");
    }

    // Responses

    private static JsonNode decode(ApiMessageType api, short version, byte[] frame) throws Exception {
        if (api == ApiMessageType.API_VERSIONS && frame.length >= 2 && frame[0] == 0 && frame[1] == Errors.UNSUPPORTED_VERSION.code()) {
            version = 0; // KIP-511
        }
        ByteBuffer buffer = ByteBuffer.wrap(frame);
        if (api.responseHeaderVersion(version) > 0 && buffer.get() != 0) {
            throw new IllegalStateException("tagged fields in the header of a response");
        }
        ApiMessage message = api.newResponse();
        message.read(new ByteBufferAccessor(buffer), version);
        ObjectNode json = (ObjectNode) converter(message.getClass()).getMethod("write", message.getClass(), short.class, boolean.class)
            .invoke(null, message, version, true);
        if (message instanceof FetchResponseData fetched) {
            show(fetched, json);
        }
        if (buffer.hasRemaining()) {
            json.put("bytesAfterTheResponse", buffer.remaining());
        }
        nameErrors(json);
        return json;
    }

    private static void nameErrors(JsonNode node) {
        for (JsonNode inner : node) {
            nameErrors(inner);
        }
        if (node instanceof ObjectNode object) {
            for (Map.Entry<String, JsonNode> field : object.properties()) {
                if (field.getKey().endsWith("rrorCode") && field.getValue().isNumber()) {
                    short code = field.getValue().shortValue();
                    boolean known = code == -1 || Errors.forCode(code) != Errors.UNKNOWN_SERVER_ERROR;
                    field.setValue(new TextNode(known ? Errors.forCode(code).name() : "error " + code));
                }
            }
        }
    }

    /** Kafka's converters leave records out. */
    private static void show(FetchResponseData fetched, ObjectNode json) {
        for (int t = 0; t < fetched.responses().size(); t++) {
            var partitions = fetched.responses().get(t).partitions();
            for (int p = 0; p < partitions.size(); p++) {
                if (partitions.get(p).records() instanceof MemoryRecords records) {
                    ((ObjectNode) json.get("responses").get(t).get("partitions").get(p)).set("records", batches(records));
                }
            }
        }
    }

    private static ArrayNode batches(MemoryRecords records) {
        ArrayNode all = JSON.createArrayNode();
        for (MutableRecordBatch batch : records.batches()) {
            ObjectNode one = all.addObject();
            one.put("baseOffset", batch.baseOffset()).put("lastOffset", batch.lastOffset()).put("valid", batch.isValid())
                .put("codec", batch.compressionType().name).put("appendTime", batch.timestampType() == TimestampType.LOG_APPEND_TIME)
                .put("transactional", batch.isTransactional()).put("control", batch.isControlBatch())
                .put("maxTimestamp", batch.maxTimestamp()).put("producerId", batch.producerId())
                .put("producerEpoch", batch.producerEpoch()).put("baseSequence", batch.baseSequence());
            ArrayNode each = one.putArray("records");
            try {
                for (Record record : batch) {
                    each.addObject().put("offset", record.offset()).put("timestamp", record.timestamp())
                        .put("key", text(record.key())).put("value", text(record.value()));
                }
            } catch (RuntimeException e) {
                each.add(e.getClass().getSimpleName());
            }
        }
        return all;
    }

    private static String text(ByteBuffer bytes) {
        return bytes == null ? null : StandardCharsets.ISO_8859_1.decode(bytes.duplicate()).toString();
    }
}
