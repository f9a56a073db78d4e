/**
 * The browser's client of an rpcserver: one module without dependencies; it runs under Node 22 and later, too.
 *
 *     import { RpcClient } from "./client.js";
 *
 *     const client = new RpcClient("ws://127.0.0.1:7717/", credential);
 *     await client.connect();
 *     const listing = await client.call("session.ls", { limit: 20 });
 *     const subscription = await client.subscribe(["session.*"], (event) => console.log(event.topic, event.data));
 *
 * When the connection drops it connects again, waiting longer after each failure, and every subscription goes on after
 * the last event it has seen: none is missed and none comes twice. Where the server no longer keeps what was missed,
 * the subscription's `onGap` is called. A call that was under way when the connection dropped is rejected with
 * `Disconnected`: whether it was carried out only the caller can find out.
 *
 * A close code from 4500 on says that the same client would be refused again; it does not come back then, and `onState`
 * is told "closed". With 4501 the person has to log in again: the credential is unknown, revoked or has expired.
 */

const SUBPROTOCOL = "rpcserver.v1";
const BEARER_SUBPROTOCOL = "base64url.bearer.rpcserver.";

/** The server answered a call with an error. */
export class CallError extends Error {
  /** @param {{code: number, message: string, data?: object}} error as it came over the wire */
  constructor({ code, message, data = {} }) {
    super(data.reason ? `${message}: ${data.reason}` : message);
    this.name = "CallError";
    this.code = code;
    /** The error's name, such as `ENTER_REFUSED`. */
    this.kind = data.kind ?? null;
    this.data = data;
  }
}

/** The connection is gone; calls under way may or may not have been carried out. */
export class Disconnected extends Error {
  /** @param {number} code the close code, 1006 when none came */
  constructor(code, reason = "") {
    super(`the connection was closed (${code}${reason ? `: ${reason}` : ""})`);
    this.name = "Disconnected";
    this.code = code;
  }
}

/** An open subscription; `epoch` and `seq` are the position up to which it has heard. */
export class Subscription {
  #client;

  constructor(client, topics, handler, onGap) {
    this.#client = client;
    this.topics = topics;
    this.handler = handler;
    this.onGap = onGap;
    this.id = null;
    this.epoch = null;
    this.seq = null;
  }

  /** Hear no more of it. */
  async close() {
    await this.#client.unsubscribe(this);
  }
}

/** One connection of one user, made again whenever it drops. */
export class RpcClient {
  #url;
  #credential;
  #options;
  #socket = null;
  #hello = null;
  #nextId = 1;
  #calls = new Map();
  #subscriptions = new Set();
  #subscribing = 0;
  #early = new Map();
  #isClosed = false;
  #failures = 0;
  #advice = {};
  #timer = null;
  #watch = null;
  #isSilent = false;
  #connecting = null;

  /**
   * @param {string} url where the server listens, `ws://` or `wss://`
   * @param {string|null} credential as `rpcserver user add` printed it; it never stands in a url
   * @param {object} [options]
   * @param {number} [options.firstDelayMs] the longest wait before the first new attempt
   * @param {number} [options.maxDelayMs] the longest wait before any later one
   * @param {number} [options.callTimeoutMs] how long a call may take; the server is told to give up, too
   * @param {(state: "open"|"waiting"|"closed", detail: object) => void} [options.onState] told of every change
   */
  constructor(url, credential = null, options = {}) {
    this.#url = url;
    this.#credential = credential;
    this.#options = { firstDelayMs: 500, maxDelayMs: 30_000, callTimeoutMs: 60_000, onState: () => {}, ...options };
  }

  /** The server's `$/hello` of this connection, null without one. */
  get hello() {
    return this.#hello;
  }

  /** Connect and wait for the hello. Rejects with Disconnected when the first attempt fails: it is not repeated. */
  async connect() {
    this.#isClosed = false;
    if (this.#hello !== null) return;
    this.#connecting ??= this.#open().finally(() => (this.#connecting = null));
    await this.#connecting;
  }

  /** Close for good. What waits for an answer is rejected with Disconnected. */
  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#drop(new Disconnected(1000));
  }

  /**
   * Call a method and return its result.
   *
   * @param {string} method such as `session.ls`
   * @param {object} [params] by name
   * @throws {CallError} the server said no
   * @throws {Disconnected} there is no connection, or it was lost while waiting
   */
  call(method, params = {}) {
    return new Promise((resolve, reject) => {
      if (this.#hello === null) {
        reject(new Disconnected(1006, "not connected"));
        return;
      }
      const id = this.#nextId++;
      const timer = setTimeout(() => this.#giveUp(id, method), this.#options.callTimeoutMs);
      this.#calls.set(id, { resolve, reject, timer });
      this.#send({ jsonrpc: "2.0", id, method, params });
    });
  }

  /**
   * Hear of events whose topic fits one of `topics`, such as `session.*`.
   *
   * @param {string[]} topics
   * @param {(event: {topic: string, seq: number, epoch: string, at: number, data: object}) => void} handler
   * @param {object} [options]
   * @param {{epoch: string, seq: number}} [options.since] begin after this event instead of now
   * @param {(gap: {since: object, at: object}) => void} [options.onGap] told when events were lost for good
   * @returns {Promise<Subscription>}
   */
  async subscribe(topics, handler, { since = null, onGap = () => {} } = {}) {
    const subscription = new Subscription(this, topics, handler, onGap);
    await this.#subscribe(subscription, since);
    return subscription;
  }

  /** Close a subscription; true when the server still had it. */
  async unsubscribe(subscription) {
    this.#subscriptions.delete(subscription);
    return this.#hello === null ? false : this.call("events.unsubscribe", { subscription: subscription.id });
  }

  #open() {
    return new Promise((resolve, reject) => {
      const protocols = [SUBPROTOCOL];
      if (this.#credential !== null) protocols.push(BEARER_SUBPROTOCOL + base64url(this.#credential));
      const socket = new WebSocket(this.#url, protocols);
      this.#socket = socket;
      socket.onmessage = ({ data }) => {
        if (socket !== this.#socket) return;
        this.#isSilent = false;
        const message = JSON.parse(data);
        for (const item of Array.isArray(message) ? message : [message]) this.#take(item);
        if (message.method === "$/hello") resolve();
      };
      // `error` is always followed by `close`, which says more.
      socket.onerror = () => {};
      socket.onclose = ({ code, reason }) => {
        const error = new Disconnected(code, reason);
        reject(error);
        if (socket === this.#socket) this.#drop(error);
      };
    });
  }

  #greeted(hello) {
    this.#hello = hello;
    this.#advice = {};
    this.#isSilent = false;
    this.#watch = setInterval(() => this.#look(), hello.heartbeat_s * 1000);
    this.#options.onState("open", hello);
  }

  /** A page does not see the server's pings: a connection silent for two heartbeats is asked, then given up. */
  #look() {
    if (this.#isSilent) this.#drop(new Disconnected(1006, "the server is silent"));
    else {
      this.#isSilent = true;
      this.call("server.ping").catch(() => {});
    }
  }

  /** Let the connection go, now; unless that was wanted or the server advised against it, come back later. */
  #drop(error) {
    const wasOpen = this.#hello !== null;
    const socket = this.#socket;
    this.#socket = null;
    this.#hello = null;
    clearInterval(this.#watch);
    socket?.close(1000);
    this.#early.clear();
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#calls.clear();
    if (this.#advice.reconnect === false || !mayReturn(error.code)) this.#isClosed = true;
    if (wasOpen) this.#options.onState(this.#isClosed ? "closed" : "waiting", error);
    if (wasOpen) this.#retry();
  }

  #retry() {
    if (this.#isClosed) return;
    const { firstDelayMs, maxDelayMs } = this.#options;
    // Spread at random up to a bound that doubles: a restarted server is not met by everybody at once.
    const delayMs = Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#again(), delayMs + (this.#advice.retry_after_ms ?? 0));
  }

  async #again() {
    try {
      await this.connect();
    } catch (error) {
      // It may be over for good by now, as when the credential has expired or was revoked meanwhile.
      if (this.#isClosed) this.#options.onState("closed", error);
      else this.#retry();
      return;
    }
    for (const subscription of [...this.#subscriptions]) {
      try {
        await this.#subscribe(subscription, { epoch: subscription.epoch, seq: subscription.seq });
      } catch (error) {
        if (error instanceof Disconnected) return; // `#drop` has seen to the next attempt
        if (error.data.retryable) {
          this.#drop(new Disconnected(1006, error.message));
          return;
        }
        this.#subscriptions.delete(subscription);
        subscription.onGap({ since: null, at: null, error });
      }
    }
    this.#failures = 0;
  }

  async #subscribe(subscription, since) {
    const { topics } = subscription;
    this.#subscribing += 1;
    try {
      const answer = await this.call("events.subscribe", since === null ? { topics } : { topics, since });
      subscription.id = answer.subscription;
      subscription.epoch = answer.epoch;
      subscription.seq = answer.seq;
      this.#subscriptions.add(subscription);
      if (answer.recovered === false) {
        subscription.onGap({ since, at: { epoch: answer.epoch, seq: answer.seq } });
      }
      for (const event of this.#early.get(subscription.id) ?? []) this.#tell(subscription, event);
    } finally {
      this.#subscribing -= 1;
      if (this.#subscribing === 0) this.#early.clear();
    }
  }

  #take(message) {
    if (message.method === undefined) {
      // A message whose id the server could not read, when only one is under way, was that one.
      const id = message.id === null && this.#calls.size === 1 ? this.#calls.keys().next().value : message.id;
      const waiting = this.#calls.get(id);
      if (waiting === undefined) {
        if (id === null || id === undefined) console.error("rpcserver: an answer without an id", message.error);
        return;
      }
      this.#calls.delete(id);
      clearTimeout(waiting.timer);
      if (message.error) waiting.reject(new CallError(message.error));
      else waiting.resolve(message.result);
    } else if (message.method === "$/hello") {
      this.#greeted(message.params);
    } else if (message.method === "$/closing") {
      this.#advice = message.params;
    } else if (message.params?.subscription !== undefined && !message.method.startsWith("$/")) {
      const { subscription: id, ...rest } = message.params;
      const event = { topic: message.method, ...rest };
      // One that comes right behind the answer to subscribe is kept until whoever waits for the answer has run.
      const subscription = [...this.#subscriptions].find((candidate) => candidate.id === id);
      if (subscription) this.#tell(subscription, event);
      else if (this.#subscribing > 0) this.#early.set(id, [...(this.#early.get(id) ?? []), event]);
    }
  }

  #tell(subscription, event) {
    subscription.seq = event.seq;
    subscription.epoch = event.epoch;
    try {
      subscription.handler(event);
    } catch (error) {
      // A handler's fault must not cost the others their events.
      console.error("rpcserver: an event handler failed", error);
    }
  }

  #giveUp(id, method) {
    const waiting = this.#calls.get(id);
    this.#calls.delete(id);
    this.#send({ jsonrpc: "2.0", method: "$/cancelRequest", params: { id } });
    const message = `${method} took longer than ${this.#options.callTimeoutMs} ms and was given up`;
    waiting.reject(new CallError({ code: -32001, message, data: { kind: "TIMED_OUT", retryable: true } }));
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }
}

/** Tell whether a close code leaves the way back open: 45xx says that the same client would be refused again. */
function mayReturn(code) {
  return !(code >= 4500 && code < 5000);
}

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
