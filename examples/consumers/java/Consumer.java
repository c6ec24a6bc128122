// A consumer of nbledger's events whose effects in PostgreSQL happen exactly once (Java).
//
// Positions of events have no gaps. So one row says how far this consumer is, and moves in the
// transaction that has the effects. README.md beside this folder says why, and lists the settings.

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class Consumer {
    private static final String TOPIC = setting("KAFKA_TOPIC", "nbledger.events");
    // https://host/api/{tenant}/{project}
    private static final String PROJECT =
            setting("PROJECT_URL", "").replaceAll("/$", "");
    // The sources of its events begin so.
    private static final String SOURCE = PROJECT.replaceFirst("^.*(/[^/]+/[^/]+)$", "/api$1/");
    private static final String NAME = setting("CONSUMER_NAME", "example");
    private static final long START_AFTER = Long.parseLong(setting("START_AFTER", "0"));
    private static final double PATIENCE_SECONDS =
            Double.parseDouble(setting("PATIENCE_SECONDS", "10"));
    private static final double IDLE_SECONDS = Double.parseDouble(setting("IDLE_SECONDS", "60"));
    private static final int BATCH = 500;
    private static final int MOST_HELD = 20_000;

    private static final Map<String, String> ENDS = Map.of(
            "execution.completed.v1", "Completed",
            "execution.failed.v1", "Failed",
            "execution.timed-out.v1", "TimedOut",
            "execution.kernel-died.v1", "KernelDied",
            "execution.cancelled.v1", "Cancelled");

    private static final Gson JSON = new Gson();
    private static final HttpClient HTTP =
            HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(30)).build();
    private static volatile boolean stopping;

    /**
     * An event. The number at the end of its type is the version of the data. The subject is the
     * notebook, of an execution, too. Erased data is null.
     */
    record Event(
            long position, String type, String stream, String subject, String time,
            JsonObject data, String fault) {}

    private final Connection database;
    private final Map<Long, ConsumerRecord<byte[], byte[]>> held = new HashMap<>();
    private long position;
    private Map<String, Long> offsets = new TreeMap<>();

    private Consumer(Connection database) throws SQLException {
        this.database = database;
        load();
    }

    /** Your effects, in the transaction of the position. This is the part to replace. */
    private void handle(Event event) throws SQLException {
        switch (event.type()) {
            // The tombstone of a notebook and its executions.
            case "notebook.deleted.v1" ->
                execute("DELETE FROM run WHERE notebook_id = ?", UUID.fromString(event.subject()));
            case "execution.requested.v1" ->
                execute("INSERT INTO run (execution_id, notebook_id, status) VALUES (?, ?, 'Requested')",
                        UUID.fromString(event.stream()), UUID.fromString(event.subject()));
            case "execution.cell-executed.v1" -> {
                if (event.data() == null) {
                    return; // erased: of what was in it nothing is left
                }
                execute("UPDATE run SET cells = cells + 1, cell_seconds = cell_seconds + ? "
                                + "WHERE execution_id = ?",
                        event.data().get("duration").getAsDouble(), UUID.fromString(event.stream()));
            }
            default -> {
                String status = ENDS.get(event.type());
                if (status == null) {
                    return; // a type, or a version of one, that this program does not know
                }
                execute("UPDATE run SET status = ? WHERE execution_id = ?",
                        status, UUID.fromString(event.stream()));
                execute("INSERT INTO run_count VALUES (?, 1) "
                        + "ON CONFLICT (status) DO UPDATE SET runs = run_count.runs + 1", status);
            }
        }
        execute("INSERT INTO run_log VALUES (?, ?, ?, CAST(? AS timestamptz))",
                event.position(), event.type(), UUID.fromString(event.stream()), event.time());
    }

    private int execute(String statement, Object... values) throws SQLException {
        try (PreparedStatement prepared = database.prepareStatement(statement)) {
            prepared.setQueryTimeout(60);
            for (int at = 0; at < values.length; at++) {
                prepared.setObject(at + 1, values[at]);
            }
            return prepared.executeUpdate();
        }
    }

    private void load() throws SQLException {
        execute("INSERT INTO consumer (name, position) VALUES (?, ?) ON CONFLICT DO NOTHING",
                NAME, START_AFTER);
        try (PreparedStatement asking = database.prepareStatement(
                "SELECT position, CAST(offsets AS text) FROM consumer WHERE name = ?")) {
            asking.setString(1, NAME);
            var found = asking.executeQuery();
            found.next();
            position = found.getLong(1);
            offsets = new TreeMap<>();
            JsonParser.parseString(found.getString(2)).getAsJsonObject().entrySet()
                    .forEach(each -> offsets.put(each.getKey(), each.getValue().getAsLong()));
        }
        database.commit();
    }

    /** The effects of these events, and the position, in one transaction. */
    private void apply(List<Event> events, long through, Map<String, Long> reached)
            throws SQLException {
        // First of all, so that another instance waits here, and then finds itself overtaken.
        int moved = execute(
                "UPDATE consumer SET position = ?, offsets = CAST(? AS jsonb) "
                        + "WHERE name = ? AND position = ?",
                through, JSON.toJson(reached), NAME, position);
        if (moved == 1) {
            for (Event event : events) {
                dealWith(event);
            }
            database.commit();
            position = through;
            offsets = reached;
        } else {
            database.rollback();
            load();
        }
    }

    private void dealWith(Event event) throws SQLException {
        Savepoint before = database.setSavepoint(); // one bad event undoes itself alone
        try {
            if (event.fault() != null) {
                throw new JsonParseException(event.fault());
            }
            handle(event);
            database.releaseSavepoint(before);
        } catch (SQLException | RuntimeException error) {
            // Classes 22 and 23 of SQLSTATE: the data is at fault, and not the database.
            if (error instanceof SQLException sql
                    && (sql.getSQLState() == null || !sql.getSQLState().matches("2[23].*"))) {
                throw error;
            }
            database.rollback(before);
            bury("position " + event.position(), error);
        }
    }

    private void bury(String place, Exception error) throws SQLException {
        say("cannot deal with " + place + ": " + error);
        execute("INSERT INTO dead_letter (consumer, place, fault) VALUES (?, ?, ?) "
                + "ON CONFLICT DO NOTHING", NAME, place, error.toString());
    }

    /** Take from the store what the topic does not have, or no longer. */
    private void catchUp() throws SQLException, IOException, InterruptedException {
        JsonObject page;
        do {
            page = feed(position, BATCH);
            long through = page.get("position").getAsLong();
            if (through > position) {
                List<Event> events = new ArrayList<>();
                page.getAsJsonArray("events").forEach(each -> events.add(told(each.getAsJsonObject())));
                apply(events, through, offsets);
            }
        } while (!page.get("next").isJsonNull());
    }

    /**
     * Keep a record until its turn; one that has come before is dropped, marked or not.
     *
     * <p>{@code ce_replay} marks what is told once more on request. The position says all that
     * matters.
     */
    private void hold(ConsumerRecord<byte[], byte[]> record) throws SQLException {
        try {
            long at = Long.parseLong(header(record, "ce_position"));
            if (at > position) {
                held.put(at, record);
            }
        } catch (NumberFormatException error) {
            // No event of nbledger. Positions do not depend on it.
            bury(TOPIC + " " + record.partition() + " " + record.offset() + " "
                    + record.timestamp(), error);
            database.commit();
        }
    }

    /** Deal with the next events in order; false if the next one is not there. */
    private boolean step() throws SQLException, IOException, InterruptedException {
        held.keySet().removeIf(at -> at <= position);
        List<Event> events = new ArrayList<>();
        Map<String, Long> reached = new TreeMap<>(offsets);
        long through = position;
        while (through < position + BATCH && held.containsKey(through + 1)) {
            through++;
            ConsumerRecord<byte[], byte[]> record = held.get(through);
            Event event = understood(record);
            if (event != null) {
                events.add(event);
            }
            reached.put(String.valueOf(record.partition()), record.offset() + 1);
        }
        if (through == position) {
            return false;
        }
        apply(events, through, reached);
        return true;
    }

    /** Read the topic until told to stop, or until something is missing on it. */
    private void follow() throws SQLException, IOException, InterruptedException {
        try (KafkaConsumer<byte[], byte[]> kafka = new KafkaConsumer<>(
                kafkaOptions(), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo each : kafka.partitionsFor(TOPIC, Duration.ofSeconds(30))) {
                partitions.add(new TopicPartition(TOPIC, each.partition()));
            }
            if (partitions.isEmpty()) {
                throw new IOException("there is no topic " + TOPIC + " yet");
            }
            // Assigned, not subscribed: all partitions are ours, and nothing is rebalanced.
            kafka.assign(partitions);
            if (offsets.isEmpty()) {
                // The end of the topic first, and the store then: so nothing is between them.
                Map<String, Long> ends = new TreeMap<>();
                kafka.endOffsets(partitions, Duration.ofSeconds(30))
                        .forEach((each, end) -> ends.put(String.valueOf(each.partition()), end));
                offsets = ends;
                catchUp();
            }
            for (TopicPartition each : partitions) {
                kafka.seek(each, offsets.getOrDefault(String.valueOf(each.partition()), 0L));
            }
            say("at work after position " + position);
            held.clear();
            long moved = System.nanoTime();
            while (!stopping) {
                for (ConsumerRecord<byte[], byte[]> record : kafka.poll(Duration.ofMillis(500))) {
                    hold(record);
                }
                while (step()) {
                    moved = System.nanoTime();
                }
                double waited = (System.nanoTime() - moved) / 1e9;
                double limit = held.isEmpty() ? IDLE_SECONDS : PATIENCE_SECONDS;
                if (waited > limit || held.size() > MOST_HELD) {
                    offsets = new TreeMap<>(); // ask the store, and go on at the end of the topic
                    return;
                }
            }
        }
    }

    private static JsonObject feed(long after, int limit) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder()
                .uri(URI.create(PROJECT + "/events?after=" + after + "&limit=" + limit))
                .header("Authorization", "Bearer " + setting("API_TOKEN", ""))
                .timeout(Duration.ofSeconds(30))
                .build();
        HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IOException("the feed answers " + answer.statusCode());
        }
        return JsonParser.parseString(answer.body()).getAsJsonObject();
    }

    /** The event of a record; null if it is of another project. */
    private static Event understood(ConsumerRecord<byte[], byte[]> record)
            throws IOException, InterruptedException {
        if (!header(record, "ce_source").startsWith(SOURCE)) {
            return null;
        }
        long at = Long.parseLong(header(record, "ce_position"));
        JsonObject data = null;
        String fault = null;
        if (!header(record, "ce_dataref").isEmpty()) {
            // Too large for a message; the feed has it.
            for (JsonElement each : feed(at - 1, 1).getAsJsonArray("events")) {
                Event found = told(each.getAsJsonObject());
                data = found.position() == at ? found.data() : null;
            }
        } else if (record.value() != null && record.value().length > 0
                && !header(record, "ce_erased").equals("true")) {
            try {
                data = JSON.fromJson(
                        new String(record.value(), StandardCharsets.UTF_8), JsonObject.class);
            } catch (JsonParseException error) {
                fault = "no JSON: " + error.getMessage();
            }
        }
        String stream = header(record, "ce_subject");
        String notebook = header(record, "ce_notebookid");
        return new Event(
                at, header(record, "ce_type").replaceFirst("^nbledger\\.", ""), stream,
                notebook.isEmpty() ? stream : notebook, header(record, "ce_time"), data, fault);
    }

    /** An event as the feed tells it. */
    private static Event told(JsonObject entry) {
        JsonElement data = entry.get("data");
        return new Event(
                entry.get("position").getAsLong(), entry.get("type").getAsString(),
                entry.get("streamId").getAsString(), entry.get("subjectId").getAsString(),
                entry.get("time").getAsString(),
                data.isJsonNull() ? null : data.getAsJsonObject(), null);
    }

    /** The value of a header; empty if there is none. */
    private static String header(ConsumerRecord<byte[], byte[]> record, String name) {
        Header found = record.headers().lastHeader(name);
        return found == null ? "" : new String(found.value(), StandardCharsets.UTF_8);
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private static void say(String text) {
        System.err.println(text);
    }

    private static Properties kafkaOptions() {
        Properties options = new Properties();
        options.put("bootstrap.servers", setting("KAFKA_BOOTSTRAP_SERVERS", ""));
        options.put("client.id", NAME);
        options.put("enable.auto.commit", "false");
        options.put("auto.offset.reset", "earliest");
        options.put("metadata.max.age.ms", "30000");
        options.put("security.protocol", setting("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"));
        if (System.getenv("KAFKA_CA_FILE") != null) {
            options.put("ssl.truststore.type", "PEM");
            options.put("ssl.truststore.location", setting("KAFKA_CA_FILE", ""));
        }
        if (System.getenv("KAFKA_USERNAME") != null) {
            String mechanism = setting("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512");
            options.put("sasl.mechanism", mechanism);
            options.put("sasl.jaas.config", String.format(
                    "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";",
                    mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule",
                    setting("KAFKA_USERNAME", ""), setting("KAFKA_PASSWORD", "")));
        }
        return options;
    }

    private static Connection connect() throws SQLException {
        URI place = URI.create(setting("DATABASE_URL", "").replaceFirst("^postgres(ql)?:", "pg:"));
        String[] user = place.getRawUserInfo() == null
                ? new String[] {"", ""} : (place.getRawUserInfo() + ":").split(":", -1);
        Properties options = new Properties();
        options.put("user", URLDecoder.decode(user[0], StandardCharsets.UTF_8));
        options.put("password", URLDecoder.decode(user[1], StandardCharsets.UTF_8));
        options.put("connectTimeout", "30");
        options.put("socketTimeout", "60");
        // An instance that is frozen in a transaction does not hold up the others.
        options.put("options", "-c idle_in_transaction_session_timeout=30s");
        Connection made = DriverManager.getConnection(
                "jdbc:postgresql://" + place.getHost() + ":"
                        + (place.getPort() < 0 ? 5432 : place.getPort()) + place.getPath(), options);
        made.setAutoCommit(false);
        return made;
    }

    public static void main(String[] arguments) throws InterruptedException {
        Thread following = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                following.join(20_000); // the transaction in hand comes to its end
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
            Runtime.getRuntime().halt(following.isAlive() ? 1 : 0);
        }));
        while (!stopping) {
            try (Connection database = connect()) {
                Consumer consumer = new Consumer(database);
                while (!stopping) {
                    consumer.follow();
                }
            } catch (SQLException | IOException | KafkaException | JsonParseException error) {
                // The database says where to go on, whatever has become of the last transaction.
                say("trying again: " + error);
                Thread.sleep(1000);
            }
        }
    }
}
