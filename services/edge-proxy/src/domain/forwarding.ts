// The heads that are passed on. Fields that concern one connection only end here; the framing is written
// anew from what was understood, so that both sides must read the same.
import { type Field, type Framing, listOf } from './fields.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';
import type { Route } from './route.ts';

const connectionFields = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'upgrade',
  'http2-settings',
];
const framingFields = ['content-length', 'transfer-encoding'];
const via = 'Via: 1.1 wrenn-edge';

export function requestForGuest(
  request: RequestHead,
  route: Extract<Route, { kind: 'guest' }>,
  clientAddress: string,
): Buffer {
  const written = new Set(['host', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-prefix']);
  const forwardedFor = [
    ...request.fields.filter(({ key }) => key === 'x-forwarded-for').map(({ value }) => value),
    clientAddress,
  ];
  return headBytes([
    `${request.method} ${route.target} HTTP/1.1`,
    // Behind a path prefix the client's Host names the edge, which development servers refuse.
    `Host: ${route.prefix === '' ? request.host : `localhost:${route.port}`}`,
    ...passedOn(request.fields, written),
    ...framingLines(request.framing),
    `X-Forwarded-For: ${forwardedFor.join(', ')}`,
    'X-Forwarded-Proto: http',
    `X-Forwarded-Host: ${request.host}`,
    ...(route.prefix === '' ? [] : [`X-Forwarded-Prefix: ${route.prefix}`]),
    via,
    ...connectionLines(request.upgrade),
  ]);
}

// A 101 takes the protocol it changes to along; any other final response ends the connection.
export function responseForClient(response: ResponseHead, method: string): Buffer {
  const { status } = response;
  const isInterim = status < 200 && status !== 101;
  // A response to HEAD and a 304 tell the length of a body that does not come.
  const declares = method === 'HEAD' || status === 304;
  const upgrade = status === 101 ? response.fields.find(({ key }) => key === 'upgrade')?.value : undefined;
  return headBytes([
    `HTTP/1.1 ${status} ${response.phrase}`,
    ...passedOn(response.fields, new Set(), declares),
    ...framingLines(response.framing),
    via,
    ...(isInterim ? [] : connectionLines(upgrade)),
  ]);
}

function passedOn(fields: readonly Field[], written: ReadonlySet<string>, withFraming = false): string[] {
  const dropped = new Set([...connectionFields, ...listOf(fields, 'connection'), ...framingFields, ...written]);
  if (withFraming) for (const key of framingFields) dropped.delete(key);
  return fields.filter(({ key }) => !dropped.has(key)).map(({ name, value }) => `${name}: ${value}`);
}

function framingLines(framing: Framing): string[] {
  if (framing.kind === 'length') return [`Content-Length: ${framing.length}`];
  return framing.kind === 'chunked' ? ['Transfer-Encoding: chunked'] : [];
}

function connectionLines(upgrade: string | undefined): string[] {
  return upgrade === undefined ? ['Connection: close'] : ['Connection: Upgrade', `Upgrade: ${upgrade}`];
}

function headBytes(lines: readonly string[]): Buffer {
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}
