// How a TypeScript program uses the stub: what is right compiles, and each fault below is found.
import { Api, type Caller, type ErrorKind, type Notifications } from "./api.js";

export async function walk(caller: Caller): Promise<string> {
  const api = new Api(caller);
  const { session_id } = await api.session.create({ name: "work" });
  const listing = await api.session.cd({ session_id, to: "home", _meta: { deadline_ms: 1000 } });
  const names: string[] = (listing.contents?.tokens ?? []).map((token) => token.name);
  const pong: "pong" = await api.call("server.ping", {});
  return [pong, ...names].join(" ");
}

export const kind: ErrorKind = "SET_NOT_FOUND";

export function entered(event: Notifications["session.entered"]): string {
  return `${event.seq} ${event.data.set_id}`;
}

export async function faults(api: Api): Promise<void> {
  // @ts-expect-error a param is missing
  await api.session.destroy({});
  // @ts-expect-error there is no such param
  await api.session.ls({ sesion_id: "s_1" });
  // @ts-expect-error a way that does not exist
  await api.session.cd({ to: "sideways" });
  // @ts-expect-error no such method
  await api.call("session.sl", {});
  // @ts-expect-error a number where a string is due
  const id: number = (await api.session.create()).session_id;
  // @ts-expect-error no such kind of error
  const wrong: ErrorKind = "NO_SUCH_KIND";
  console.log(id, wrong);
}
