import { isSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { requestForGuest, responseForClient } from './forwarding.ts';
import { parseRequestHead } from './request-head.ts';
import { parseResponseHead } from './response-head.ts';

const bytes = (...lines: string[]) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
const lines = (head: Buffer) => head.toString('latin1').split('\r\n').slice(0, -2);

function forwarded(prefix: string, ...head: string[]): string[] {
  const sandboxId = `cl-${'0'.repeat(25)}`;
  if (!isSandboxId(sandboxId)) throw new Error('not an id');
  const route = { kind: 'guest', sandboxId, port: 8000, target: '/rest', prefix } as const;
  return lines(requestForGuest(parseRequestHead(bytes(...head)), route, '192.0.2.1'));
}

test('what concerns one connection ends here, what the client says of itself is passed on', () => {
  const head = forwarded(
    '',
    'POST /x HTTP/1.1',
    'Host: 8000-x.localhost',
    'Connection: keep-alive, X-Private',
    'Keep-Alive: timeout=5',
    'X-Private: 1',
    'TE: trailers',
    'Proxy-Authorization: Basic eA==',
    'HTTP2-Settings: AAMAAABk',
    'Cookie: a=b',
    'cookie: c=d',
    'Content-Length: 007',
  );
  expect(head).toEqual([
    'POST /rest HTTP/1.1',
    'Host: 8000-x.localhost',
    'Cookie: a=b',
    'cookie: c=d',
    'Content-Length: 7',
    'X-Forwarded-For: 192.0.2.1',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: 8000-x.localhost',
    'Via: 1.1 wrenn-edge',
    'Connection: close',
  ]);
});

test('a client can have neither Host nor framing taken away', () => {
  const head = forwarded(
    '',
    'POST / HTTP/1.1',
    'Host: a',
    'Connection: host, content-length, transfer-encoding, via',
    'Transfer-Encoding: chunked',
  );
  expect(head).toEqual(expect.arrayContaining(['Host: a', 'Transfer-Encoding: chunked', 'Via: 1.1 wrenn-edge']));
});

test('a client cannot forge where the request came from', () => {
  const head = forwarded(
    '',
    'GET / HTTP/1.1',
    'Host: a',
    'X-Forwarded-For: 10.0.0.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: b',
    'X-Forwarded-Prefix: /evil',
  );
  expect(head.filter((line) => line.startsWith('X-Forwarded'))).toEqual([
    'X-Forwarded-For: 10.0.0.1, 192.0.2.1',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: a',
  ]);
});

test('behind a path prefix the guest sees its own name and is told the prefix', () => {
  const head = forwarded('/proxy/x/8000', 'GET / HTTP/1.1', 'Host: edge:9480');
  expect(head).toEqual(
    expect.arrayContaining([
      'Host: localhost:8000',
      'X-Forwarded-Host: edge:9480',
      'X-Forwarded-Prefix: /proxy/x/8000',
    ]),
  );
});

test('an offer to change the protocol is passed on as an offer', () => {
  const head = forwarded(
    '',
    'GET / HTTP/1.1',
    'Host: a',
    'Connection: Upgrade',
    'Upgrade: WebSocket',
    'Sec-WebSocket-Key: x',
  );
  expect(head.slice(-2)).toEqual(['Connection: Upgrade', 'Upgrade: WebSocket']);
  expect(head).toContain('Sec-WebSocket-Key: x');
});

const response = (method: string, ...head: string[]) =>
  lines(responseForClient(parseResponseHead(bytes(...head), method), method));

test('a response closes the connection, whatever the guest says', () => {
  expect(
    response(
      'GET',
      'HTTP/1.0 200 Fine',
      'Connection: keep-alive',
      'Keep-Alive: timeout=5',
      'Set-Cookie: a',
      'Set-Cookie: b',
      'Content-Length: 3',
    ),
  ).toEqual([
    'HTTP/1.1 200 Fine',
    'Set-Cookie: a',
    'Set-Cookie: b',
    'Content-Length: 3',
    'Via: 1.1 wrenn-edge',
    'Connection: close',
  ]);
});

test('a response to HEAD and a 304 keep the length they tell of, a 204 has none', () => {
  expect(response('HEAD', 'HTTP/1.1 200 OK', 'Content-Length: 3')).toContain('Content-Length: 3');
  expect(response('HEAD', 'HTTP/1.1 200 OK', 'Transfer-Encoding: chunked')).toContain('Transfer-Encoding: chunked');
  expect(response('GET', 'HTTP/1.1 304 Not Modified', 'Content-Length: 3')).toContain('Content-Length: 3');
  expect(response('GET', 'HTTP/1.1 204 No Content', 'Content-Length: 3').join()).not.toContain('Content-Length');
});

test('a 101 says what it changes to, and an interim response does not close', () => {
  expect(
    response('GET', 'HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: websocket').slice(-2),
  ).toEqual(['Connection: Upgrade', 'Upgrade: websocket']);
  expect(response('POST', 'HTTP/1.1 100 Continue').join()).not.toContain('Connection');
});
