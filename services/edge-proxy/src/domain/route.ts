// Where a request goes, by its Host or its path alone.
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import { isTrafficToken } from '@wrenn/kit/tokens';

import { isDigits } from './fields.ts';
import { Refusal, notFound } from './refusal.ts';

export interface GuestRoute {
  readonly kind: 'guest';
  readonly sandboxId: SandboxId;
  readonly port: number;
  readonly target: string; // For the guest: its part of the path, byte for byte, and the query.
  readonly prefix: string; // What names the sandbox in the path; empty when the Host does.
  readonly keepsPrefix?: true; // The prefix is part of the target too.
  readonly token?: string; // A traffic token that the Host names, right or wrong.
}

export type Route = { readonly kind: 'health' } | GuestRoute;

const sandboxIdLength = 28;
const pathPrefix = '/proxy/';
// As in code-server: for servers that are told where they are, because their pages link by absolute paths.
const keptPathPrefix = '/absproxy/';

export interface Routed {
  readonly method: string;
  readonly target: string;
  readonly host: string;
}

export function routeOf(request: Routed, domain: string): Route {
  const { target } = request;
  const label = sandboxLabel(request.host, domain);
  if (label !== undefined) {
    const dash = label.indexOf('-');
    const { id, token } = idAndToken(label.slice(dash + 1));
    const route = guest(id, label.slice(0, dash), target, '');
    return token === undefined ? route : { ...route, token };
  }
  if (target.startsWith(pathPrefix)) {
    const { id, port, left } = partsOf(target.slice(pathPrefix.length));
    return guest(id, port, left.startsWith('/') ? left : `/${left}`, `${pathPrefix}${id}/${port}`);
  }
  if (target.startsWith(keptPathPrefix)) {
    const { id, port } = partsOf(target.slice(keptPathPrefix.length));
    return { ...guest(id, port, target, `${keptPathPrefix}${id}/${port}`), keepsPrefix: true };
  }
  const [path] = cut(target, '?');
  if (path === '/healthz' && (request.method === 'GET' || request.method === 'HEAD')) return { kind: 'health' };
  throw new Refusal(
    'ROUTE_NOT_FOUND',
    'no sandbox is named: use /proxy/{sandbox id}/{port}/ or {port}-{sandbox id} as host',
  );
}

function partsOf(path: string): { id: string; port: string; left: string } {
  const [id, rest] = cut(path, '/');
  const portEnd = rest.search(/[/?]/);
  return portEnd < 0 ? { id, port: rest, left: '' } : { id, port: rest.slice(0, portEnd), left: rest.slice(portEnd) };
}

function guest(id: string, portText: string, target: string, prefix: string): GuestRoute {
  const port = Number(portText);
  const isPort = isDigits(portText) && !portText.startsWith('0') && portText.length <= 5 && port <= 65_535;
  if (!isSandboxId(id) || !isPort) throw notFound();
  return { kind: 'guest', sandboxId: id, port, target, prefix };
}

// `cl-…` or `cl-…-token`.
function idAndToken(text: string): { id: string; token?: string } {
  const token = text.slice(sandboxIdLength + 1);
  if (text[sandboxIdLength] !== '-' || !isTrafficToken(token)) return { id: text };
  return { id: text.slice(0, sandboxIdLength), token };
}

// `8000-cl-…` of `8000-cl-….sandboxes.example:9480`; undefined when the Host names no sandbox.
function sandboxLabel(host: string, domain: string): string | undefined {
  if (host.startsWith('[')) return undefined;
  const colon = host.indexOf(':');
  const named = colon < 0 ? host : host.slice(0, colon);
  const name = named.endsWith('.') ? named.slice(0, -1) : named;
  const labelEnd = name.length - domain.length - 1;
  if (name[labelEnd] !== '.' || name.slice(labelEnd + 1).toLowerCase() !== domain.toLowerCase()) return undefined;
  return isDigits(name.slice(0, Math.max(name.indexOf('-'), 0))) ? name.slice(0, labelEnd) : undefined;
}

function cut(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return index < 0 ? [text, ''] : [text.slice(0, index), text.slice(index + 1)];
}
