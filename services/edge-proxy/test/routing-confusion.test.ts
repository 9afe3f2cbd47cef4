// Requests that two parsers could take to two places: each leads to the sandbox that it plainly names, or nowhere. On
// one port number listen the sandbox that is named, another one, and this host; the last two hear of none of it.
import { type Server, type Socket, createServer } from 'node:net';

import { newSandboxId } from '@wrenn/kit/ids';
import { newTrafficToken } from '@wrenn/kit/tokens';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { exchange, guestAddress, serving, startEdge } from './edge.ts';

const neighbourAddress = '127.0.0.3';
const canaryAddresses = [neighbourAddress, '127.0.0.1', '::1'];
const named = newSandboxId();
const neighbour = newSandboxId();
let port = 0;
let edge: Awaited<ReturnType<typeof startEdge>>;
const servers: Server[] = [];
const callers: { readonly address: string; readonly socket: Socket }[] = [];

async function listenOn(address: string): Promise<number> {
  const server = createServer((socket) => {
    callers.push({ address, socket });
    socket.on('error', () => socket.destroy());
    serving(() => `HTTP/1.1 200 OK\r\nContent-Length: ${address.length}\r\n\r\n${address}`)(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return (server.address() as { port: number }).port;
}

beforeAll(async () => {
  port = await listenOn(guestAddress);
  for (const address of canaryAddresses) await listenOn(address);
  edge = await startEdge();
  edge.guests.set(named, guestAddress);
  edge.guests.set(neighbour, neighbourAddress);
});

afterAll(async () => {
  await edge[Symbol.asyncDispose]();
  for (const { socket } of callers) socket.destroy();
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
});

const statusOf = (response: string) => Number(response.slice(9, 12));

// `{n}` and `{m}` are the sandbox that is named and its neighbour, `{p}` the port, `{t}` any token.
const filled = (text: string) =>
  text
    .replaceAll('{n}', named)
    .replaceAll('{m}', neighbour)
    .replaceAll('{p}', String(port))
    .replaceAll('{t}', newTrafficToken());

async function answerTo(target: string, hostLines: readonly string[], method = 'GET'): Promise<string> {
  const lines = [`${method} ${target} HTTP/1.1`, ...hostLines, 'Connection: close'];
  return exchange(edge.port, filled(`${lines.join('\r\n')}\r\n\r\n`));
}

function expectNoStray(): void {
  expect(callers.filter(({ address }) => address !== guestAddress)).toEqual([]);
}

test.each([
  ['/', ['Host: {p}-{n}.localhost']],
  ['/', ['Host: {p}-{n}.localhost:1']],
  ['/', ['Host: {p}-{n}.localhost:65535']],
  ['/', ['Host: {p}-{n}.LOCALHOST']],
  ['/', ['Host: {p}-{n}.localhost.']],
  ['/', ['Host: {p}-{n}-{t}.localhost']],
  ['/', ['hOST: {p}-{n}.localhost']],
  ['//127.0.0.1:{p}/', ['Host: {p}-{n}.localhost']],
  ['/http://127.0.0.1:{p}/', ['Host: {p}-{n}.localhost']],
  ['/proxy/{m}/{p}/', ['Host: {p}-{n}.localhost']],
  ['/@127.0.0.1:{p}/', ['Host: {p}-{n}.localhost']],
  ['/\\127.0.0.1:{p}/', ['Host: {p}-{n}.localhost']],
  ['/..;/..;/proxy/{m}/{p}/', ['Host: {p}-{n}.localhost']],
  ['http://{p}-{n}.localhost/', ['Host: {p}-{n}.localhost']],
  ['HTTP://{p}-{n}.LocalHost/', ['Host: {p}-{n}.localhost']],
  ['http://{p}-{n}.localhost?a=/proxy/{m}/{p}/', ['Host: {p}-{n}.localhost']],
  ['/', ['Host: {p}-{n}.localhost', 'X-Forwarded-Host: {p}-{m}.localhost']],
  ['/', ['Host: {p}-{n}.localhost', 'Forwarded: host={p}-{m}.localhost']],
  ['/', ['Host: {p}-{n}.localhost', 'X-Original-URL: /proxy/{m}/{p}/', 'X-Rewrite-URL: /proxy/{m}/{p}/']],
  ['/', ['Host: {p}-{n}.localhost', 'X-Host: 127.0.0.1:{p}', 'X-Forwarded-Server: 127.0.0.1']],
  ['/proxy/{n}/{p}', ['Host: a']],
  ['/proxy/{n}/{p}?', ['Host: a']],
  ['/proxy/{n}/{p}/', ['Host: 127.0.0.1:{p}']],
  ['/proxy/{n}/{p}/', ['Host: [::1]:{p}']],
  ['/proxy/{n}/{p}/', ['Host: 169.254.169.254']],
  ['/proxy/{n}/{p}/', ['Host: localhost']],
  ['/proxy/{n}/{p}/', ['Host: {m}.localhost']],
  ['/proxy/{n}/{p}/../../{m}/{p}/', ['Host: a']],
  ['/proxy/{n}/{p}/%2e%2e/%2e%2e/{m}/{p}/', ['Host: a']],
  ['/proxy/{n}/{p}//127.0.0.1:{p}/', ['Host: a']],
  ['/proxy/{n}/{p}/@127.0.0.1:{p}/', ['Host: a']],
  ['/proxy/{n}/{p}/http://127.0.0.1:{p}/', ['Host: a']],
  ['/proxy/{n}/{p}/;/proxy/{m}/{p}/', ['Host: a']],
  ['/proxy/{n}/{p}?/proxy/{m}/{p}/', ['Host: a']],
  ['http://a/proxy/{n}/{p}/', ['Host: a']],
])('%s with %j leads to the sandbox that it names, and to no other', async (target, hostLines) => {
  const answer = await answerTo(target, hostLines);
  expect(statusOf(answer)).toBe(200);
  expect(answer.endsWith(guestAddress)).toBe(true);
  expectNoStray();
});

test.each([
  // Not one Host, or none that is one.
  [400, '/', []],
  [400, '/', ['Host: {p}-{n}.localhost', 'Host: {p}-{m}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost', 'Host: {p}-{n}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost, {p}-{m}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost {p}-{m}.localhost']],
  [400, '/', ['Host : {p}-{n}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost', ' {p}-{m}.localhost']],
  [400, '/', ['Host:']],
  [400, '/', ['Host: user@{p}-{n}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost@127.0.0.1:{p}']],
  [400, '/', ['Host: user:pass@{p}-{n}.localhost']],
  [400, '/', ['Host: http://{p}-{n}.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost/']],
  [400, '/', ['Host: {p}-{n}.localhost#.localhost']],
  [400, '/', ['Host: {p}-{n}.localhost?']],
  [400, '/', ['Host: {p}-{n}.localhost\\.localhost']],
  [400, '/', ['Host: {p}-{n}%2elocalhost']],
  [400, '/', ['Host: {p}-{n}.localhost:']],
  [400, '/', ['Host: {p}-{n}.localhost:8o']],
  [400, '/', ['Host: {p}-{n}.localhost:1:2']],
  [400, '/', ['Host: {p}-{n}.localhost:655360']],
  [400, '/', ['Host: {p}-{n}.loc\xe4lhost']],
  [400, '/', ['Host: {p}-{n}\xe3\x80\x82localhost']],
  [400, '/', ['Host: [{p}-{n}.localhost]']],
  [400, '/', ['Host: [::1']],
  // Two places at once.
  [400, 'http://{p}-{m}.localhost/', ['Host: {p}-{n}.localhost']],
  [400, 'http://127.0.0.1:{p}/', ['Host: {p}-{n}.localhost']],
  [400, 'http://user@{p}-{n}.localhost/', ['Host: {p}-{n}.localhost']],
  [400, 'http://{p}-{n}.localhost:80/', ['Host: {p}-{n}.localhost']],
  [400, 'https://{p}-{n}.localhost/', ['Host: {p}-{n}.localhost']],
  [400, 'ftp://{p}-{n}.localhost/', ['Host: {p}-{n}.localhost']],
  [400, '{p}-{n}.localhost', ['Host: {p}-{n}.localhost']],
  [400, '127.0.0.1:{p}', ['Host: {p}-{n}.localhost']],
  [400, '*', ['Host: {p}-{n}.localhost']],
  [400, 'http:/{p}-{m}.localhost/', ['Host: {p}-{n}.localhost']],
  [400, '/#/proxy/{m}/{p}/', ['Host: {p}-{n}.localhost']],
  // Names that only look like one.
  [404, '/', ['Host: {p}-{n}.localhost.localhost']],
  [404, '/', ['Host: {p}-{n}.localhost..']],
  [404, '/', ['Host: x.{p}-{n}.localhost']],
  [404, '/', ['Host: {p}-{n}.xlocalhost']],
  [404, '/', ['Host: {p}-{n}.localhost.example']],
  [404, '/', ['Host: xn--{p}-{n}.localhost']],
  [404, '/', ['Host: {p}-{p}-{n}.localhost']],
  [404, '/', ['Host: {p}-{n}-{m}.localhost']],
  [404, '/', ['Host: {p}-{n}-{t}-{t}.localhost']],
  [404, '/', ['Host: 0{p}-{n}.localhost']],
  [404, '/', ['Host: 99999-{n}.localhost']],
  [404, '/', ['Host: -{p}-{n}.localhost']],
  [404, '/', ['Host: {n}-{p}.localhost']],
  [404, '/', ['Host: localhost']],
  [404, '/', ['Host: 127.0.0.1:{p}']],
  [404, '/', ['Host: 169.254.169.254']],
  [404, '/', ['Host: [::ffff:127.0.0.1]:{p}']],
  [404, '/', ['Host: 2130706433']],
  [404, '/proxy/127.0.0.1/{p}/', ['Host: a']],
  [404, '/proxy/169.254.169.254/80/', ['Host: a']],
  [404, '/proxy/localhost/{p}/', ['Host: a']],
  [404, '/proxy/[::1]/{p}/', ['Host: a']],
  [404, '/proxy/{n}@{m}/{p}/', ['Host: a']],
  [404, '/proxy/{n}:{p}/', ['Host: a']],
  [404, '/proxy/{n}%00/{p}/', ['Host: a']],
  [404, '/proxy/{n}/127.0.0.1:{p}/', ['Host: a']],
  [404, '/proxy/{n}/{p}@127.0.0.1/', ['Host: a']],
  [404, '/proxy/{n}/{p};/', ['Host: a']],
  [404, '/proxy/{n}/0x50/', ['Host: a']],
  [404, '/proxy/{n}/%38%30/', ['Host: a']],
  [404, '/proxy/../proxy/{n}/{p}/', ['Host: a']],
  [404, '//proxy/{n}/{p}/', ['Host: a']],
  [404, '/PROXY/{n}/{p}/', ['Host: a']],
  [404, '/x/proxy/{n}/{p}/', ['Host: a']],
])('%i for %s with %j', async (status, target, hostLines) => {
  const before = callers.length;
  expect(statusOf(await answerTo(target, hostLines))).toBe(status);
  expect(callers).toHaveLength(before);
});

test.each(['127.0.0.1:{p}', '{p}-{n}.localhost', '169.254.169.254:80'])(
  'CONNECT %s makes no tunnel',
  async (target) => {
    const before = callers.length;
    expect(statusOf(await answerTo(target, ['Host: {p}-{n}.localhost'], 'CONNECT'))).toBe(405);
    expect(callers).toHaveLength(before);
  },
);

test('a redirect of a guest to another place is the client’s to follow, not the edge’s', async () => {
  await using redirecting = await startEdge();
  const server = createServer(
    serving(() => `HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254:${port}/\r\nContent-Length: 0\r\n\r\n`),
  );
  await new Promise<void>((resolve) => server.listen(0, guestAddress, resolve));
  const at = (server.address() as { port: number }).port;
  const head = `GET /proxy/${redirecting.sandboxId}/${at}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
  const answer = await exchange(redirecting.port, head);
  expect(statusOf(answer)).toBe(302);
  expect(answer).toContain(`\r\nLocation: http://169.254.169.254:${port}/\r\n`);
  expectNoStray();
  server.close();
});
