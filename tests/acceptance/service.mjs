// A NATS service in JavaScript that knows nothing of gozo: it answers, or fails, as it is asked to.
import { connect } from "@nats-io/transport-node";
import * as services from "@nats-io/services";

const { Svcm } = services.default ?? services; // CommonJS, in some versions
const [url, subject] = process.argv.slice(2);
const nc = await connect({ servers: url });
const service = await new Svcm(nc).add({ name: "jobs", version: "1.0.0", queue: "q" });

let calls = 0;
service.addEndpoint("run", {
  subject,
  handler: (error, message) => {
    calls += 1;
    const wanted = message.string();
    if (wanted === "fail once" && calls === 1) {
      message.respondError(500, "no disk", "details");
    } else {
      message.respond(`done ${calls}`);
    }
  },
});
await nc.flush();
console.log(JSON.stringify({ ready: true }));
await nc.closed();
