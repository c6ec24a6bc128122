// Reads a JSON list of AsyncAPI documents from standard input; prints what the parser says of each.
const { Parser } = require(process.argv[2] + "/node_modules/@asyncapi/parser");

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", async () => {
  const told = [];
  const parser = new Parser();
  for (const each of JSON.parse(Buffer.concat(chunks).toString("utf8"))) {
    const { document, diagnostics } = await parser.parse(JSON.stringify(each));
    const channels = document ? document.channels().all() : [];
    const messages = Object.fromEntries(
      channels.map((channel) => [channel.address(), channel.messages().all().length]),
    );
    told.push({ messages, diagnostics });
  }
  console.log(JSON.stringify(told));
});
