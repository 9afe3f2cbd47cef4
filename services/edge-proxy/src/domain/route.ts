// Where a request goes, by its Host or its path alone.
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';

import { isDigits } from './fields.ts';
import { Refusal } from './refusal.ts';

export interface GuestRoute {
  readonly kind: 'guest';
  readonly sandboxId: SandboxId;
  readonly port: number;
  readonly target: string; // For the guest: what is left of the path, byte for byte, and the query.
  readonly prefix: string; // What was taken off the path; empty when the Host named the sandbox.
}

export type Route = { readonly kind: 'health' } | GuestRoute;

// The guest agent's port is root in the guest: nothing of it is served here but single files, by URLs that
// bear a signature. Whether it is good for that file and until when, the agent knows.
const agentPort = 49_983;
const signedMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST']);
const pathPrefix = '/proxy/';

export interface Routed {
  readonly method: string;
  readonly target: string;
  readonly host: string;
  readonly upgrade?: string | undefined;
}

export function routeOf(request: Routed, domain: string): Route {
  const route = namedRoute(request, domain);
  if (route.kind === 'guest' && route.port === agentPort && !isSignedFile(request, route.target)) {
    throw new Refusal('PORT_CLOSED', `port ${agentPort} serves signed URLs of files only`);
  }
  return route;
}

function namedRoute(request: Routed, domain: string): Route {
  const { target } = request;
  const label = sandboxLabel(request.host, domain);
  if (label !== undefined) {
    const dash = label.indexOf('-');
    return guest(label.slice(dash + 1), label.slice(0, dash), target, '');
  }
  if (target.startsWith(pathPrefix)) {
    const [id, rest] = cut(target.slice(pathPrefix.length), '/');
    const portEnd = rest.search(/[/?]/);
    const port = portEnd < 0 ? rest : rest.slice(0, portEnd);
    const left = portEnd < 0 ? '' : rest.slice(portEnd);
    return guest(id, port, left.startsWith('/') ? left : `/${left}`, `${pathPrefix}${id}/${port}`);
  }
  const [path] = cut(target, '?');
  if (path === '/healthz' && (request.method === 'GET' || request.method === 'HEAD')) return { kind: 'health' };
  throw new Refusal(
    'ROUTE_NOT_FOUND',
    'no sandbox is named: use /proxy/{sandbox id}/{port}/ or {port}-{sandbox id} as host',
  );
}

function guest(id: string, portText: string, target: string, prefix: string): Route {
  if (!isSandboxId(id)) throw new Refusal('SANDBOX_NOT_FOUND', 'there is no such sandbox');
  const port = Number(portText);
  if (!isDigits(portText) || portText.startsWith('0') || portText.length > 5 || port > 65_535) {
    throw new Refusal('ROUTE_NOT_FOUND', 'a port is 1 to 65535');
  }
  return { kind: 'guest', sandboxId: id, port, target, prefix };
}

// Byte for byte: what another parser could read as this path or this parameter is not taken for it.
function isSignedFile({ method, upgrade }: Routed, target: string): boolean {
  const [path, query] = cut(target, '?');
  const signatures = query.split('&').filter((parameter) => parameter.startsWith('signature='));
  const isSigned = signatures.length === 1 && signatures[0] !== 'signature=';
  return signedMethods.has(method) && upgrade === undefined && path === '/files' && isSigned;
}

// `8000-cl-…` of `8000-cl-….sandboxes.example:9480`; undefined when the Host names no sandbox.
function sandboxLabel(host: string, domain: string): string | undefined {
  if (host.startsWith('[')) return undefined;
  const [named] = cut(host, ':');
  const name = named.endsWith('.') ? named.slice(0, -1) : named;
  const suffix = `.${domain}`.toLowerCase();
  if (!name.toLowerCase().endsWith(suffix)) return undefined;
  const label = name.slice(0, -suffix.length);
  return isDigits(label.slice(0, Math.max(label.indexOf('-'), 0))) ? label : undefined;
}

function cut(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return index < 0 ? [text, ''] : [text.slice(0, index), text.slice(index + 1)];
}
