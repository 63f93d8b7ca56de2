// A client of gozo in JavaScript: schedules, reads and cancels, and prints what it saw as JSON.
import { connect, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const nc = await connect({ servers: process.argv[2] });

function given(pairs) {
  const all = headers();
  for (const [name, value] of Object.entries(pairs)) all.set(name, value);
  return all;
}

async function next(subscription) {
  for await (const message of subscription) return message;
}

async function ask(pairs, payload, reply) {
  const receipts = nc.subscribe("js.receipts", { max: 1 });
  nc.publish("gozo", payload, { reply, headers: given({ ...pairs, "Gozo-Receipt": "js.receipts" }) });
  return (await next(receipts)).json();
}

const seen = {};
const deliveries = nc.subscribe("js.deliveries", { max: 1 });
seen.stored = await ask({ "Gozo-When": "+0.5", "Gozo-Id": "js one", trace: "abc" }, "tea", "js.deliveries");
const delivered = await next(deliveries);
seen.delivered = {
  payload: delivered.string(),
  reply: delivered.headers.get("Gozo-Reply"),
  id: delivered.headers.get("Gozo-Id"),
  trace: delivered.headers.get("trace"),
};

await ask({ "Gozo-When": "+3600", "Gozo-Id": "js-two" }, "kept", "js.deliveries");
const bucket = await new Kvm(nc).open("gozo");
seen.entry = (await bucket.get("js-two")).string();
seen.cancelled = await ask({ "Gozo-Del-Id": "js-two" }, "");
seen.marker = (await bucket.get("js-two")).operation;

const durable = nc.subscribe("js.durable", { max: 1 });
const ack = await jetstream(nc).publish("$KV.gozo.js-three", "by itself", {
  headers: given({ "Gozo-When": "+0.2", "Gozo-Subject": "js.durable" }),
});
seen.acknowledged = ack.stream;
seen.durable = (await next(durable)).string();

console.log(JSON.stringify(seen));
await nc.close();
