// Other people's JSON-RPC clients, each on the same walk: node clients.mjs NAME URL CREDENTIAL prints what came of it.
// A client is what `open` returns: call(method, params), on(topic, hear), cancelled(method, params) -> the error,
// and batch(items) where the package can send one.
const [name, url, credential] = process.argv.slice(2);

const opened = (socket) =>
  new Promise((resolve, reject) => {
    socket.addEventListener("open", () => resolve(socket));
    socket.addEventListener("error", reject);
  });

const CLIENTS = {
  async "rpc-websockets"() {
    const { Client } = await import("rpc-websockets");
    const client = new Client(url, { reconnect: false });
    const peer = {
      on: (topic, hear) => client.on(topic, hear),
      call: (method, params) => client.call(method, params),
      async cancelled(method, params) {
        const refused = client.call(method, params).catch((error) => error);
        await client.notify("$/cancelRequest", { id: client.rpc_id });
        return refused;
      },
      close: () => client.close(),
    };
    return [peer, new Promise((resolve, reject) => client.once("open", resolve).once("error", reject))];
  },

  async "json-rpc-2.0"() {
    const { default: rpc } = await import("json-rpc-2.0");
    const socket = await socketOf();
    let last = 0;
    const peer = new rpc.JSONRPCServerAndClient(
      new rpc.JSONRPCServer(),
      new rpc.JSONRPCClient(
        (message) => socket.send(JSON.stringify(message)),
        () => ++last,
      ),
    );
    socket.addEventListener("message", ({ data }) => peer.receiveAndSend(JSON.parse(data)));
    return [
      {
        on: (topic, hear) => peer.addMethod(topic, hear),
        call: (method, params) => peer.request(method, params),
        cancelled(method, params) {
          const refused = peer.request(method, params).catch((error) => error);
          peer.notify("$/cancelRequest", { id: last });
          return refused;
        },
        batch: (items) => peer.requestAdvanced(items),
        close: () => socket.close(),
      },
      opened(socket),
    ];
  },

  async "@open-rpc/client-js"() {
    const { Client, RequestManager, WebSocketTransport } = await import("@open-rpc/client-js");
    const transport = new WebSocketTransport(url);
    let last = 0;
    const client = new Client(new RequestManager([transport], () => ++last));
    const hearing = new Map();
    client.onError(() => {}); // it tells each refusal twice: there, and where the call was made
    client.onNotification(({ method, params }) => hearing.get(method)?.(params));
    return [
      {
        on: (topic, hear) => hearing.set(topic, hear),
        call: (method, params) => client.request({ method, params }),
        async cancelled(method, params) {
          const refused = client.request({ method, params }).catch((error) => error);
          await new Promise(setImmediate); // it gives the id in a turn of its own
          client.notify({ method: "$/cancelRequest", params: { id: String(last) } });
          return refused;
        },
        close: () => client.close(),
      },
      transport.connect(),
    ];
  },

  async "vscode-jsonrpc"() {
    const node = await import("vscode-jsonrpc/node");
    const rpc = node.default ?? node;
    const socket = await socketOf();
    class Reader extends rpc.AbstractMessageReader {
      listen(hear) {
        socket.addEventListener("message", ({ data }) => hear(JSON.parse(data)));
        return { dispose() {} };
      }
    }
    class Writer extends rpc.AbstractMessageWriter {
      async write(message) {
        socket.send(JSON.stringify(message));
      }
      end() {}
    }
    const connection = rpc.createMessageConnection(new Reader(), new Writer());
    connection.listen();
    return [
      {
        on: (topic, hear) => connection.onNotification(topic, hear),
        call: (method, params) =>
          Array.isArray(params) ? connection.sendRequest(method, ...params) : connection.sendRequest(method, params),
        cancelled(method, params) {
          const source = new rpc.CancellationTokenSource();
          const refused = connection.sendRequest(method, params, source.token).catch((error) => error);
          setTimeout(() => source.cancel(), 100);
          return refused;
        },
        close: () => socket.close(),
      },
      opened(socket),
    ];
  },

  async jayson() {
    const { default: jayson } = await import("jayson");
    const socket = await socketOf();
    let last = 0;
    const client = new jayson.Client.websocket({ ws: socket, generator: () => ++last });
    const hearing = new Map();
    // The package leaves notifications to its user.
    socket.on("message", (data) => {
      const message = JSON.parse(data);
      hearing.get(message.method)?.(message.params);
    });
    const call = (method, params) =>
      new Promise((resolve, reject) =>
        client.request(method, params, (failed, error, result) =>
          failed || error ? reject(failed || error) : resolve(result),
        ),
      );
    return [
      {
        on: (topic, hear) => hearing.set(topic, hear),
        call,
        cancelled(method, params) {
          const refused = call(method, params).catch((error) => error);
          client.request("$/cancelRequest", { id: last }, null, () => {});
          return refused;
        },
        batch: (items) =>
          new Promise((resolve, reject) =>
            client.request(items, (failed, answers) => (failed ? reject(failed) : resolve(answers))),
          ),
        close: () => socket.close(),
      },
      opened(socket),
    ];
  },
};

async function socketOf() {
  const { default: WebSocket } = await import("ws");
  return new WebSocket(url, ["rpcserver.v1"]);
}

const [client, isOpen] = await CLIENTS[name]();
const heard = (topic) => new Promise((resolve) => client.on(topic, resolve));
const created = heard("session.created");
await isOpen;
const who = await client.call("auth.authenticate", { credential });
await client.call("events.subscribe", { topics: ["session.*"] });
const { session_id } = await client.call("session.create", [name.replaceAll("/", " ")]);
const event = await created;
const listing = await client.call("session.ls", { session_id });
const moved = await client.call("session.cd", { session_id, to: "home" });
const acted = await client.call("session.action", { session_id, token_id: "bookmarks.add" });
const record = await client.call("session.get", { session_id });
const error = await client.call("session.get", { session_id: "s_none" }).catch((refused) => refused);
const cancelled = await client.cancelled("job.run", { function: "guest.forever" });
const outcome = {
  name: who.name,
  session: record.name,
  heard: event.data.session_id === session_id,
  walked: [listing.current_set.set_name, moved.current_set.set_name],
  acted: acted.handled_by,
  error: [error.code, error.data.kind],
  cancelled: cancelled.code,
};
if (client.batch) {
  const answers = await client.batch([
    { jsonrpc: "2.0", id: 1001, method: "server.ping" },
    { jsonrpc: "2.0", id: 1002, method: "no.such.method" },
  ]);
  const [pong, unknown] = [1001, 1002].map((id) => answers.find((answer) => answer.id === id));
  outcome.batch = [pong.result, unknown.error.code];
}
console.log(JSON.stringify(outcome));
client.close();
