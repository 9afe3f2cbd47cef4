// What hostile and broken guests answer: refused or cut, never passed on as another response, and the connection to
// such a guest never used again.
import { eventually } from '@wrenn/kit/testkit/eventually';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type Guest, rawClient, startEdge, startGuest } from './edge.ts';

const evil = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
const head = (...fields: string[]) => `HTTP/1.1 200 OK\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`;
const chunked = head('Transfer-Encoding: chunked');

// Nothing of these is passed on.
const refused: readonly (readonly [name: string, bytes: string])[] = [
  ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
  ['a request', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['HTTP/0.9', '<html>hello</html>\r\n\r\n'],
  ['HTTP/2.0', 'HTTP/2.0 200 OK\r\n\r\n'],
  ['a version in small letters', 'http/1.1 200 OK\r\n\r\n'],
  ['ICY', 'ICY 200 OK\r\n\r\n'],
  ['a space in front', ` ${evil}`],
  ['an empty line in front', `\r\n${evil}`],
  ['two spaces', 'HTTP/1.1  200 OK\r\n\r\n'],
  ['a tab', 'HTTP/1.1\t200 OK\r\n\r\n'],
  ['no status', 'HTTP/1.1\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
  ['a status below 100', 'HTTP/1.1 099 OK\r\n\r\n'],
  ['a status of letters', 'HTTP/1.1 2oo OK\r\n\r\n'],
  ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'],
  ['a bare CR', 'HTTP/1.1 200 OK\r\nX: a\rContent-Length: 0\r\n\r\n'],
  ['NUL', head('X: \0')],
  ['a folded field', head('X: a', ' b')],
  ['a space before the colon', head('Content-Length : 0')],
  ['a field without a colon', head('X')],
  ['a field without a name', head(': x')],
  ['two lengths', `${head('Content-Length: 5', 'Content-Length: 6')}hello`],
  ['two lengths that agree', `${head('Content-Length: 5', 'Content-Length: 5')}hello`],
  ['a list of lengths', `${head('Content-Length: 5, 5')}hello`],
  ['a negative length', head('Content-Length: -1')],
  ['a length in hex', head('Content-Length: 0x5')],
  ['a length beyond 2^53', head('Content-Length: 18446744073709551617')],
  ['a length and chunks', `${head('Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`],
  ['chunks and a length', `${head('Transfer-Encoding: chunked', 'Content-Length: 5')}0\r\n\r\n`],
  ['chunked twice', `${head('Transfer-Encoding: chunked, chunked')}0\r\n\r\n`],
  ['gzip and chunked', `${head('Transfer-Encoding: gzip, chunked')}0\r\n\r\n`],
  ['identity', head('Transfer-Encoding: identity')],
  ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a change of protocol nobody asked for', `HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n${evil}`],
  ['a head of 100 KB', head(`X: ${'y'.repeat(100_000)}`)],
  ['101 fields', head(...Array.from({ length: 101 }, () => 'X: y'))],
  ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
  ['nothing', ''],
];

test.each(refused)('a guest that answers with %s: 502', async (_name, bytes) => {
  const { text, sockets } = await answeredWith(bytes);
  expect(text).toMatch(/^HTTP\/1\.1 502 /);
  expect(text).not.toContain('evil');
  expect(sockets).toBe(2);
});

// These begin well, so a part was passed on when it showed.
const cut: readonly (readonly [name: string, bytes: string])[] = [
  ['a body shorter than its length', `${head('Content-Length: 9')}short`],
  ['chunks that break off', `${chunked}5\r\nhel`],
  ['chunks without the last', `${chunked}5\r\nhello\r\n`],
  ['a chunk size that is no number', `${chunked}5\r\nhello\r\nxyz\r\n`],
  ['a chunk size in hex notation', `${chunked}0x5\r\nhello\r\n0\r\n\r\n`],
  ['a chunk longer than its size', `${chunked}1\r\nhello\r\n0\r\n\r\n`],
  ['a chunk ended by LF', `${chunked}5\r\nhello\n0\r\n\r\n`],
  ['a chunk size beyond 2^53', `${chunked}fffffffffffffffff\r\nx`],
  ['an extension of 5,000 characters', `${chunked}5;${'a'.repeat(5000)}\r\nhello\r\n0\r\n\r\n`],
  ['a trailer that frames', `${chunked}0\r\nContent-Length: 5\r\n\r\n`],
  ['trailers of 20 KB', `${chunked}0\r\n${`X: ${'y'.repeat(1000)}\r\n`.repeat(20)}\r\n`],
];

test.each(cut)('a guest that answers with %s: cut, so that its client can tell', async (_name, bytes) => {
  const got = fetch(`http://127.0.0.1:${edge.port}${await pathOf(bytes)}`).then((answer) => answer.text());
  await expect(got).rejects.toThrow();
});

// One good response, and more than it.
const followed: readonly (readonly [name: string, method: string, bytes: string])[] = [
  ['a second response', 'GET', `${head('Content-Length: 2')}ok${evil}`],
  ['a second response behind chunks', 'GET', `${chunked}2\r\nok\r\n0\r\n\r\n${evil}`],
  ['a second response behind none', 'GET', `${head('Content-Length: 0')}${evil}`],
  ['a body of 204', 'GET', `HTTP/1.1 204 No Content\r\n\r\n${evil}`],
  ['a body of 304', 'GET', `HTTP/1.1 304 Not Modified\r\nContent-Length: ${evil.length}\r\n\r\n${evil}`],
  ['a body of HEAD', 'HEAD', `${head(`Content-Length: ${evil.length}`)}${evil}`],
  ['chunks of HEAD', 'HEAD', `${chunked}4\r\nevil\r\n0\r\n\r\n`],
  ['a stray line end', 'GET', `${head('Content-Length: 2')}ok\r\n`],
  ['the end of its connection told of', 'GET', `${head('Content-Length: 2', 'Connection: close')}ok`],
];

test.each(followed)(
  '%s never reaches a client, and the connection serves nobody else',
  async (_name, method, bytes) => {
    const { text, sockets } = await answeredWith(bytes, method);
    expect(text).toMatch(/^HTTP\/1\.1 [23]0/);
    expect(text).not.toContain('evil');
    expect(sockets).toBe(2);
  },
);

let edge: Awaited<ReturnType<typeof startEdge>>;
let guest: Guest;
let answer = '';

beforeAll(async () => {
  edge = await startEdge();
  // It says what it has to say to each request, and goes unless it asks to be kept.
  guest = await startGuest((socket) => {
    socket.on('data', () => {
      socket.write(Buffer.from(answer, 'latin1'));
      if (!answer.includes('evil')) socket.end();
    });
  });
});

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
  await edge[Symbol.asyncDispose]();
});

async function pathOf(bytes: string): Promise<string> {
  answer = bytes;
  return `/proxy/${edge.sandboxId}/${guest.port}/`;
}

// What a client gets for two requests in turn, up to the end of the first response, and how many connections to the
// guest they took.
async function answeredWith(bytes: string, method = 'GET'): Promise<{ text: string; sockets: number }> {
  const before = guest.sockets.length;
  const path = await pathOf(bytes);
  const client = rawClient(edge.port, `${method} ${path} HTTP/1.1\r\nHost: b\r\n\r\n`.repeat(2));
  const answers = () => client.text().match(/HTTP\/1\.1 [2-5]/g)?.length ?? 0;
  await eventually('both are answered', () => answers() === 2);
  client.socket.destroy();
  return { text: client.text(), sockets: guest.sockets.length - before };
}
