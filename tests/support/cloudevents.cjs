// Reads a JSON list of messages from standard input, Kafka's with a `value` and others of HTTP with
// a `body`, both in base64; prints the events that the CloudEvents SDK reads from them.
const { HTTP, Kafka } = require(process.argv[2] + "/node_modules/cloudevents");

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => {
  const read = JSON.parse(Buffer.concat(chunks).toString("utf8")).map((message) => {
    const event =
      "body" in message
        ? HTTP.toEvent({ ...message, body: Buffer.from(message.body, "base64").toString("utf8") })
        : Kafka.toEvent({ ...message, value: Buffer.from(message.value, "base64") });
    event.validate();
    return event.toJSON();
  });
  console.log(JSON.stringify(read));
});
