// The heads that are passed on. Fields that concern one connection only end here; the framing is written
// anew from what was understood, so that both sides must read the same.
import type { Framing } from './fields.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';
import { type Place, type Rewrite, rewriters } from './rewriting.ts';
import type { GuestRoute } from './route.ts';

const perConnection = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'upgrade',
  'http2-settings',
  'content-length',
  'transfer-encoding',
];
// Written by the edge itself; of the last two, what a trusted proxy in front says is kept.
const aboutClient = ['forwarded', 'x-forwarded-for', 'x-forwarded-prefix', 'x-forwarded-proto', 'x-forwarded-host'];
type Treatment = 'drop' | 'tell' | 'origin' | 'expect';
// Of a request's fields; any other passes.
const treatments: ReadonlyMap<string, Treatment> = new Map([
  ...perConnection.map((key) => [key, 'drop'] as const),
  ...aboutClient.map((key) => [key, 'tell'] as const),
  ['host', 'drop'],
  ['origin', 'origin'],
  ['expect', 'expect'],
]);
const via = 'Via: 1.1 wrenn-edge\r\n';

// Who sent the request, and what the guest is told to be called.
export interface Sender {
  readonly address: string;
  readonly isTrusted: boolean; // A proxy of ours in front, which says the truth of its own client.
}

export function requestForGuest(request: RequestHead, route: GuestRoute, sender: Sender): string {
  const { options, version } = request;
  const host = hostForGuest(request, route);
  const told = new Map<string, string>();
  let head = `${request.method} ${route.target} HTTP/${version}\r\nHost: ${host}\r\n`;
  for (const { name, key, value } of request.fields) {
    const treatment = treatments.get(key);
    if (treatment === 'tell') told.set(key, told.has(key) ? `${told.get(key)}, ${value}` : value);
    else if (treatment === 'origin') head += `${name}: ${originForGuest(value, request, host)}\r\n`;
    else if (treatment !== 'drop' && !options.includes(key) && (treatment !== 'expect' || version !== '1.0'))
      head += `${name}: ${value}\r\n`;
  }
  head += framingLine(request.framing) + forwardedLines(told, request, sender);
  if (route.prefix !== '' && !route.keepsPrefix) head += `X-Forwarded-Prefix: ${route.prefix}\r\n`;
  return `${head}${via}${connectionLines(request)}\r\n`;
}

// Behind a path prefix the client's Host names the edge, which development servers refuse.
function hostForGuest(request: RequestHead, route: GuestRoute): string {
  return route.prefix === '' ? request.host : `localhost:${route.port}`;
}

// A page that asks its own server stays one that does; the Origin of any other is for the guest to judge.
function originForGuest(origin: string, request: RequestHead, host: string): string {
  const scheme = origin.startsWith('https://') ? 'https://' : 'http://';
  return origin.toLowerCase() === scheme + request.host.toLowerCase() ? `http://${host}` : origin;
}

function forwardedLines(
  told: ReadonlyMap<string, string>,
  request: RequestHead,
  { address, isTrusted }: Sender,
): string {
  const proto = (isTrusted && told.get('x-forwarded-proto')) || 'http';
  const host = (isTrusted && told.get('x-forwarded-host')) || request.host;
  const before = (key: string) => (told.has(key) ? `${told.get(key)}, ` : '');
  const forValue = address.includes(':') ? `"[${address}]"` : address;
  return (
    `Forwarded: ${before('forwarded')}for=${forValue};host="${request.host}";proto=http\r\n` +
    `X-Forwarded-For: ${before('x-forwarded-for')}${address}\r\n` +
    `X-Forwarded-Proto: ${proto}\r\nX-Forwarded-Host: ${host}\r\n`
  );
}

// Trailers pass, so a client that can take them may say so.
function connectionLines({ upgrade, options, fields }: RequestHead): string {
  if (upgrade !== undefined) return `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
  const takesTrailers =
    options.includes('te') && fields.some(({ key, value }) => key === 'te' && /^trailers$/i.test(value));
  return takesTrailers ? 'TE: trailers\r\nConnection: TE\r\n' : '';
}

export interface ResponseOptions {
  readonly method: string;
  readonly place: Place;
  readonly keepsAlive: boolean; // The client's connection, after this response.
  readonly toClient?: readonly string[] | undefined; // Fields of the edge's own, in the final response.
}

export function responseForClient(response: ResponseHead, terms: ResponseOptions): string {
  const { method, place, keepsAlive, toClient = [] } = terms;
  const { status, options } = response;
  // A response to HEAD and a 304 tell the length of a body that does not come.
  const declares = method === 'HEAD' || status === 304;
  let head = `HTTP/1.1 ${status} ${response.phrase}\r\n`;
  for (const { name, key, value } of response.fields) {
    const treatment = responseTreatments.get(key);
    if (treatment === 'framing' ? !declares : treatment === 'drop' || options.includes(key)) continue;
    head += `${name}: ${typeof treatment === 'function' ? treatment(value, place) : value}\r\n`;
  }
  head += framingLine(response.framing) + via;
  if (status >= 200 || status === 101) for (const field of toClient) head += `${field}\r\n`;
  if (status === 101) head += `Connection: Upgrade\r\nUpgrade: ${upgradeOf(response)}\r\n`;
  else if (status >= 200 && !keepsAlive) head += 'Connection: close\r\n';
  return `${head}\r\n`;
}

// Of a response's fields; any other passes. An alternative service would be at an address of the edge, and of another
// protocol.
const responseTreatments: ReadonlyMap<string, 'drop' | 'framing' | Rewrite> = new Map<
  string,
  'drop' | 'framing' | Rewrite
>([
  ...rewriters,
  ...[...perConnection, 'alt-svc'].map((key) => [key, 'drop'] as const),
  ['content-length', 'framing'],
  ['transfer-encoding', 'framing'],
]);

export function upgradeOf(response: ResponseHead): string | undefined {
  return response.fields.find(({ key }) => key === 'upgrade')?.value;
}

function framingLine(framing: Framing): string {
  if (framing.kind === 'length') return `Content-Length: ${framing.length}\r\n`;
  return framing.kind === 'chunked' ? 'Transfer-Encoding: chunked\r\n' : '';
}
