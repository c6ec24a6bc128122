// A receiver of webhooks: checks the signature, does the work once for each event, then answers.
//
//     WEBHOOK_SECRET=whsec_… node receive.cjs 8001
//
// What it has seen is in memory: where the work has effects, note the id in their transaction.

const http = require("node:http");
const { Webhook } = require("standardwebhooks");

const secrets = process.env.WEBHOOK_SECRET.split(" ").map((secret) => new Webhook(secret));
const seen = new Set();
const MOST_BYTES = 1024 * 1024;

function verified(body, headers) {
  for (const each of secrets) {
    try {
      return each.verify(body, headers);
    } catch {
      // Another secret may have signed it.
    }
  }
  return null;
}

http
  .createServer((request, response) => {
    const parts = [];
    let length = 0;
    request.on("data", (part) => {
      length += part.length;
      if (length > MOST_BYTES) request.destroy();
      else parts.push(part);
    });
    request.on("end", () => {
      // The bytes as they came: another JSON of the same event has another signature.
      const event = verified(Buffer.concat(parts), request.headers);
      if (event === null) return response.writeHead(400).end();
      if (!seen.has(event.id)) {
        console.log(event.sequence, event.type, event.subject);
        seen.add(event.id);
      }
      response.writeHead(204).end();
    });
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
