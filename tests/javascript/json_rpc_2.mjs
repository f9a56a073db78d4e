// The npm package json-rpc-2.0 over ws: authenticates, calls, sends a batch, meets an error, hears an event.
import rpc from "json-rpc-2.0";
import WebSocket from "ws";

const [url, credential] = process.argv.slice(2);
const socket = new WebSocket(url, ["rpcserver.v1"]);
const { JSONRPCClient, JSONRPCServer, JSONRPCServerAndClient } = rpc;
const peer = new JSONRPCServerAndClient(
  new JSONRPCServer(),
  new JSONRPCClient((message) => socket.send(JSON.stringify(message))),
);
const heard = (topic) => new Promise((resolve) => peer.addMethod(topic, resolve));
const greeted = heard("$/hello");
const created = heard("session.created");
socket.on("message", (data) => peer.receiveAndSend(JSON.parse(data)));
await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
const hello = await greeted;
const who = await peer.request("auth.authenticate", { credential });
await peer.request("events.subscribe", { topics: ["session.*"] });
const batch = await peer.requestAdvanced([
  { jsonrpc: "2.0", id: 101, method: "session.create", params: { name: "in a batch" } },
  { jsonrpc: "2.0", id: 102, method: "server.ping" },
  { jsonrpc: "2.0", id: 103, method: "no.such.method" },
]);
const [made, pong, unknown] = [101, 102, 103].map((id) => batch.find((answer) => answer.id === id));
const event = await created;
const record = await peer.request("session.get", { session_id: made.result.session_id });
const error = await peer.requestAdvanced({ jsonrpc: "2.0", id: 104, method: "session.get", params: ["s_none"] });
console.log(
  JSON.stringify({
    protocol: hello.protocol,
    name: who.name,
    session: record.name,
    heard: event.data.session_id === made.result.session_id,
    error: [error.error.code, error.error.data.kind],
    batch: [pong.result, unknown.error.code],
  }),
);
socket.close();
