// The Java half of the judge: Apache Kafka's own code reads what ours wrote, and writes what ours must read.
//
// usage: Judge OURS THEIRS   reads the lines of OURS, writes the answers and Kafka's own samples to THEIRS.
// Line formats are described in examples/judge/main.rs. Uses only public classes of kafka-clients.

import java.io.PrintWriter;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.Readable;
import org.apache.kafka.common.protocol.types.ArrayOf;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

public class Judge {
    private static final String PACKAGE = "org.apache.kafka.common.message.";
    private static final HexFormat HEX = HexFormat.of();
    private static final int SAMPLES = 8;

    public static void main(String[] args) throws Exception {
        Set<String> messages = new LinkedHashSet<>();
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(Path.of(args[1])))) {
            for (String line : Files.readAllLines(Path.of(args[0]))) {
                String[] f = line.split(" ");
                switch (f[0]) {
                    case "M" -> {
                        messages.add(f[1] + " " + f[2]);
                        out.println("m " + f[1] + " " + f[2] + " " + f[3] + " " + same(f[1], Short.parseShort(f[2]), f[3]));
                    }
                    case "X" -> out.println("x " + f[1] + " " + f[2] + " " + f[3] + " " + f[4] + " "
                        + cross(f[1], Short.parseShort(f[2]), Short.parseShort(f[3]), f[4]));
                    case "D" -> out.println("d " + f[1] + " " + f[2] + " " + f[3] + " "
                        + cross(f[1], Short.parseShort(f[2]), Short.parseShort(f[2]), f[3]));
                    case "R" -> out.println("r " + f[1] + " " + f[2] + " " + batch(unhex(f[2])));
                    case "B" -> out.println("b " + f[1] + " " + f[2] + " " + batch(unhex(f[2])));
                    default -> throw new IllegalArgumentException(line);
                }
            }
            Random random = new Random(42);
            for (String message : messages) {
                String[] f = message.split(" ");
                kafkas(out, f[0], Short.parseShort(f[1]), random);
            }
            batches(out);
            tables(out);
        }
    }

    // API keys with versions and header versions, and error codes.
    private static void tables(PrintWriter out) {
        for (ApiKeys key : ApiKeys.values()) {
            if (key.latestVersion() < key.oldestVersion()) {
                continue;
            }
            StringBuilder headers = new StringBuilder();
            for (short version = key.oldestVersion(); version <= key.latestVersion(); version++) {
                headers.append(' ').append(key.requestHeaderVersion(version)).append(':').append(key.responseHeaderVersion(version));
            }
            out.println("a " + key.id + " " + key.name + " " + key.oldestVersion() + " " + key.latestVersion() + " "
                + key.latestVersion(false) + " " + key.inScope(ApiMessageType.ListenerType.BROKER) + " "
                + key.inScope(ApiMessageType.ListenerType.CONTROLLER) + headers);
        }
        for (Errors error : Errors.values()) {
            out.println("e " + error.code() + " " + error.name() + " " + (error.exception() instanceof RetriableException));
        }
    }

    // Messages

    private static Class<?> type(String name) throws ClassNotFoundException {
        try {
            return Class.forName(PACKAGE + name + "Data");
        } catch (ClassNotFoundException e) {
            return Class.forName(PACKAGE + name);
        }
    }

    private static Message read(String name, short version, byte[] bytes) throws Exception {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        try {
            Message message = (Message) type(name).getConstructor(Readable.class, short.class)
                .newInstance(new ByteBufferAccessor(buffer), version);
            if (buffer.remaining() != 0) {
                throw new IllegalStateException(buffer.remaining() + " bytes left");
            }
            return message;
        } catch (InvocationTargetException e) {
            throw (Exception) e.getCause();
        }
    }

    private static String write(Message message, short version) {
        return hex(MessageUtil.toByteBufferAccessor(message, version).buffer());
    }

    private static String json(String name, Message message, short version) throws Exception {
        Class<?> type = type(name);
        Method write = Class.forName(type.getName() + "JsonConverter").getMethod("write", type, short.class, boolean.class);
        // The flag makes it show the size of record fields instead of nothing.
        return write.invoke(null, message, version, false).toString();
    }

    private static String same(String name, short version, String hex) {
        try {
            Message message = read(name, version, unhex(hex));
            return write(message, version) + " " + json(name, message, version);
        } catch (Exception | StackOverflowError e) {
            return "! " + oneLine(e);
        }
    }

    private static String cross(String name, short from, short to, String hex) {
        try {
            return write(read(name, from, unhex(hex)), to);
        } catch (UnsupportedVersionException e) {
            return "!unsupported";
        } catch (NullPointerException e) {
            return "!null";
        } catch (Exception | OutOfMemoryError e) {
            return "!" + oneLine(e);
        }
    }

    private static void kafkas(PrintWriter out, String name, short version, Random random) throws Exception {
        Schema schema = ((Schema[]) type(name).getField("SCHEMAS").get(null))[version];
        for (int i = 0; i < SAMPLES; i++) {
            Object value = random(schema, random, i % 4);
            ByteBuffer buffer = ByteBuffer.allocate(schema.sizeOf(value));
            schema.write(buffer, value);
            buffer.flip();
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            Message message = read(name, version, bytes);
            out.println("k " + name + " " + version + " " + write(message, version) + " " + json(name, message, version));
        }
    }

    // A random value of one of Kafka's own schema types.
    private static Object random(Type type, Random random, int richness) throws Exception {
        boolean none = type.isNullable() && (richness == 0 || random.nextInt(4) == 0);
        if (none) {
            return null;
        }
        if (type instanceof Schema schema) {
            Struct struct = new Struct(schema);
            for (BoundField field : schema.fields()) {
                struct.set(field, random(field.def.type, random, richness));
            }
            return struct;
        }
        if (type instanceof TaggedFields tagged) {
            TreeMap<Integer, Object> values = new TreeMap<>();
            for (Map.Entry<Integer, org.apache.kafka.common.protocol.types.Field> entry : tagged.fields().entrySet()) {
                if (richness > 0 && random.nextBoolean()) {
                    values.put(entry.getKey(), random(entry.getValue().type, random, richness));
                }
            }
            return values;
        }
        if (type instanceof ArrayOf || type instanceof CompactArrayOf) {
            Object[] values = new Object[random.nextInt(richness + 1)];
            for (int i = 0; i < values.length; i++) {
                values[i] = random(type.arrayElementType().get(), random, richness);
            }
            return values;
        }
        boolean small = random.nextBoolean();
        return switch (type.toString()) {
            case "BOOLEAN" -> random.nextBoolean();
            case "INT8" -> (byte) (small ? random.nextInt(5) : random.nextInt());
            case "INT16" -> (short) (small ? random.nextInt(5) : random.nextInt());
            case "UINT16" -> random.nextInt(65536);
            case "INT32" -> small ? random.nextInt(5) : random.nextInt();
            case "INT64" -> small ? random.nextInt(5) : random.nextLong();
            case "FLOAT64" -> random.nextInt(2000000) / 8.0;
            case "UUID" -> small ? Uuid.ZERO_UUID : new Uuid(random.nextLong(), random.nextLong());
            case "STRING", "NULLABLE_STRING", "COMPACT_STRING", "COMPACT_NULLABLE_STRING" -> text(random, richness);
            case "BYTES", "NULLABLE_BYTES", "COMPACT_BYTES", "COMPACT_NULLABLE_BYTES" ->
                ByteBuffer.wrap(bytes(random, richness));
            case "RECORDS", "NULLABLE_RECORDS", "COMPACT_RECORDS", "COMPACT_NULLABLE_RECORDS" ->
                MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(random, richness)));
            default -> nullableStruct(type, random, richness);
        };
    }

    // Kafka wraps the schema of a nullable struct in a type of its own.
    private static Object nullableStruct(Type type, Random random, int richness) throws Exception {
        for (Field field : type.getClass().getDeclaredFields()) {
            if (Schema.class.isAssignableFrom(field.getType())) {
                field.setAccessible(true);
                return random((Schema) field.get(type), random, richness);
            }
        }
        throw new IllegalStateException("unknown type " + type + " " + type.getClass());
    }

    private static byte[] bytes(Random random, int richness) {
        byte[] bytes = new byte[random.nextInt(4 * richness + 1)];
        random.nextBytes(bytes);
        return bytes;
    }

    private static String text(Random random, int richness) {
        String[] alphabet = {"a", "B", "-", "0", "z", "é", "ß", "漢", "😀", "\"", "\\"};
        StringBuilder text = new StringBuilder();
        for (int i = random.nextInt(3 * richness + 1); i > 0; i--) {
            text.append(alphabet[random.nextInt(alphabet.length)]);
        }
        return text.toString();
    }

    // Batches

    // What Kafka reads in a run of batches, in the notation of examples/judge/batches.rs.
    private static String batch(byte[] bytes) {
        try {
            StringBuilder out = new StringBuilder();
            for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
                batch.ensureValid();
                out.append("batch,").append(batch.baseOffset()).append(',').append(batch.lastOffset())
                    .append(',').append(batch.partitionLeaderEpoch()).append(',').append(batch.compressionType().name)
                    .append(',').append(batch.timestampType() == TimestampType.LOG_APPEND_TIME)
                    .append(',').append(batch.isTransactional()).append(',').append(batch.isControlBatch())
                    .append(',').append(batch.maxTimestamp()).append(',').append(batch.producerId())
                    .append(',').append(batch.producerEpoch()).append(',').append(batch.baseSequence())
                    .append(',').append(batch.lastSequence()).append(',').append(batch.countOrNull())
                    .append(',').append(batch.deleteHorizonMs().isPresent() ? batch.deleteHorizonMs().getAsLong() : "none");
                for (Record record : batch) {
                    out.append(";record,").append(record.offset()).append(',').append(record.timestamp())
                        .append(',').append(part(record.key())).append(',').append(part(record.value()));
                    for (Header header : record.headers()) {
                        byte[] value = header.value();
                        out.append(',').append(part(ByteBuffer.wrap(header.key().getBytes(StandardCharsets.UTF_8))))
                            .append(',').append(part(value == null ? null : ByteBuffer.wrap(value)));
                    }
                }
                out.append(';');
            }
            return out.toString();
        } catch (Exception e) {
            return "!" + oneLine(e);
        }
    }

    private static String part(ByteBuffer bytes) {
        return bytes == null ? "null" : "x" + HEX.formatHex(array(bytes));
    }

    // Kafka's batches: each codec with few and with many records, flags, markers.
    private static void batches(PrintWriter out) {
        for (CompressionType codec : CompressionType.values()) {
            for (int count : new int[] {1, 3, 200}) {
                emit(out, codec.name + "-" + count, build(codec, count, TimestampType.CREATE_TIME, RecordBatch.NO_PRODUCER_ID, false));
            }
            emit(out, codec.name + "-append-time", build(codec, 5, TimestampType.LOG_APPEND_TIME, RecordBatch.NO_PRODUCER_ID, false));
            emit(out, codec.name + "-transaction", build(codec, 5, TimestampType.CREATE_TIME, 9000L, true));
        }
        for (ControlRecordType end : new ControlRecordType[] {ControlRecordType.ABORT, ControlRecordType.COMMIT}) {
            emit(out, "marker-" + end.name().toLowerCase(), MemoryRecords.withEndTransactionMarker(
                77L, 1_700_000_000_123L, 5, 9000L, (short) 3, new EndTransactionMarker(end, 11)).buffer());
        }
    }

    private static ByteBuffer build(CompressionType codec, int count, TimestampType timestamps, long producer, boolean txn) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(codec).build(), timestamps, 100L, 1_700_000_000_999L, producer,
            (short) (txn ? 3 : -1), txn ? 40 : -1, txn, false, 7, Integer.MAX_VALUE);
        for (int i = 0; i < count; i++) {
            byte[] key = i % 3 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
            byte[] value = i % 5 == 4 ? null : ("value-" + i + "-").repeat(1 + i % 40).getBytes(StandardCharsets.UTF_8);
            List<Header> headers = new ArrayList<>();
            for (int h = 0; h < i % 4; h++) {
                headers.add(new RecordHeader("h" + h % 2, h == 2 ? null : new byte[] {(byte) h, (byte) i}));
            }
            builder.append(1_700_000_000_000L + 10L * i - (i % 2) * 25L, key, value, headers.toArray(new Header[0]));
        }
        return builder.build().buffer();
    }

    private static void emit(PrintWriter out, String name, ByteBuffer bytes) {
        out.println("c " + name + " " + hex(bytes) + " " + batch(array(bytes)));
    }

    // Text

    private static byte[] array(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static String hex(ByteBuffer buffer) {
        byte[] bytes = array(buffer);
        return bytes.length == 0 ? "-" : HEX.formatHex(bytes);
    }

    private static byte[] unhex(String text) {
        return text.equals("-") ? new byte[0] : HEX.parseHex(text);
    }

    private static String oneLine(Throwable e) {
        return (e.getClass().getSimpleName() + ":" + Optional.ofNullable(e.getMessage()).orElse("")).replaceAll("\\s", "_");
    }
}
