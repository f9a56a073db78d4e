// The npm package rpc-websockets: authenticates, calls, meets an error, hears an event. It sends no batches.
import { Client } from "rpc-websockets";

const [url, credential] = process.argv.slice(2);
const client = new Client(url, { reconnect: false });
const greeted = new Promise((resolve) => client.once("$/hello", resolve));
await new Promise((resolve, reject) => client.once("open", resolve).once("error", reject));
const hello = await greeted;
const who = await client.call("auth.authenticate", { credential });
const created = new Promise((resolve) => client.once("session.created", resolve));
await client.call("events.subscribe", { topics: ["session.*"] });
const { session_id } = await client.call("session.create", ["by position"]);
const event = await created;
const record = await client.call("session.get", { session_id });
const error = await client.call("session.get", { session_id: "s_none" }).catch((refused) => refused);
console.log(
  JSON.stringify({
    protocol: hello.protocol,
    name: who.name,
    session: record.name,
    heard: event.data.session_id === session_id,
    error: [error.code, error.data.kind],
  }),
);
client.close();
