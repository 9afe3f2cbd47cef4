import { isSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { requestForGuest, responseForClient } from './forwarding.ts';
import { parseRequestHead } from './request-head.ts';
import { parseResponseHead } from './response-head.ts';
import type { GuestRoute } from './route.ts';

const bytes = (...lines: string[]) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
const lines = (head: string) => head.split('\r\n').slice(0, -2);

function routeTo(prefix: string): GuestRoute {
  const sandboxId = `cl-${'0'.repeat(25)}`;
  if (!isSandboxId(sandboxId)) throw new Error('not an id');
  return { kind: 'guest', sandboxId, port: 8000, target: '/rest', prefix };
}

const sender = { address: '192.0.2.1', isTrusted: false };

function forwarded(prefix: string, ...head: string[]): string[] {
  return lines(requestForGuest(parseRequestHead(bytes(...head)), routeTo(prefix), sender));
}

test('what concerns one connection ends here, what the client says of itself is passed on', () => {
  const head = forwarded(
    '',
    'POST /x HTTP/1.1',
    'Host: 8000-x.localhost',
    'Connection: keep-alive, X-Private, TE',
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
    'Forwarded: for=192.0.2.1;host="8000-x.localhost";proto=http',
    'X-Forwarded-For: 192.0.2.1',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: 8000-x.localhost',
    'Via: 1.1 wrenn-edge',
    'TE: trailers',
    'Connection: TE',
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

test('a prefix that stays in the path is not told a second time', () => {
  const request = parseRequestHead(bytes('GET /absproxy/x/8000/a HTTP/1.1', 'Host: edge'));
  const route = { ...routeTo('/absproxy/x/8000'), target: request.target, keepsPrefix: true } as const;
  const head = lines(requestForGuest(request, route, sender));
  expect(head.slice(0, 2)).toEqual(['GET /absproxy/x/8000/a HTTP/1.1', 'Host: localhost:8000']);
  expect(head.join('\n')).not.toContain('X-Forwarded-Prefix');
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

test.each([
  ['http://edge:9480', 'http://localhost:8000'],
  ['https://EDGE:9480', 'http://localhost:8000'],
  ['http://evil.example', 'http://evil.example'],
  ['http://edge:9480.evil.example', 'http://edge:9480.evil.example'],
  ['null', 'null'],
])('behind a path prefix the Origin %s is %s to the guest', (sent, seen) => {
  expect(forwarded('/proxy/x/8000', 'GET / HTTP/1.1', 'Host: edge:9480', `Origin: ${sent}`)).toContain(
    `Origin: ${seen}`,
  );
});

test('a trusted proxy in front is believed about its client', () => {
  const request = parseRequestHead(
    bytes(
      'GET / HTTP/1.1',
      'Host: inner',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: outer',
      'X-Forwarded-For: ::1',
    ),
  );
  const head = lines(requestForGuest(request, routeTo(''), { address: 'fd00::1', isTrusted: true }));
  expect(head).toEqual(
    expect.arrayContaining([
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: outer',
      'X-Forwarded-For: ::1, fd00::1',
      'Forwarded: for="[fd00::1]";host="inner";proto=http',
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

const place = { port: 8000, prefix: '', host: '8000-x.localhost' };
const response = (method: string, keepsAlive: boolean, ...head: string[]) =>
  lines(responseForClient(parseResponseHead(bytes(...head), method), { method, place, keepsAlive }));

test('a response says nothing of the connection to the guest, and only that the client`s ends', () => {
  const head = [
    'HTTP/1.0 200 Fine',
    'Connection: keep-alive, X-Private',
    'Keep-Alive: timeout=5',
    'X-Private: 1',
    'Alt-Svc: h2=":443"',
    'Set-Cookie: a',
    'Set-Cookie: b',
    'Content-Length: 3',
  ];
  const passed = ['HTTP/1.1 200 Fine', 'Set-Cookie: a', 'Set-Cookie: b', 'Content-Length: 3', 'Via: 1.1 wrenn-edge'];
  expect(response('GET', true, ...head)).toEqual(passed);
  expect(response('GET', false, ...head)).toEqual([...passed, 'Connection: close']);
});

test('a response to HEAD and a 304 keep the length they tell of, a 204 has none', () => {
  expect(response('HEAD', true, 'HTTP/1.1 200 OK', 'Content-Length: 3')).toContain('Content-Length: 3');
  const chunked = response('HEAD', true, 'HTTP/1.1 200 OK', 'Transfer-Encoding: chunked');
  expect(chunked).toContain('Transfer-Encoding: chunked');
  expect(response('GET', true, 'HTTP/1.1 304 Not Modified', 'Content-Length: 3')).toContain('Content-Length: 3');
  expect(response('GET', true, 'HTTP/1.1 204 No Content', 'Content-Length: 3').join()).not.toContain('Content-Length');
});

test('a 101 says what it changes to, and an interim response does not close', () => {
  const upgrade = ['HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: websocket'];
  expect(response('GET', false, ...upgrade).slice(-2)).toEqual(['Connection: Upgrade', 'Upgrade: websocket']);
  expect(response('POST', false, 'HTTP/1.1 100 Continue').join()).not.toContain('Connection');
});

test('places in a response are named as its client sees them', () => {
  const head = ['HTTP/1.1 302 Found', 'Location: http://localhost:8000//a%2Fb/..;/?q', 'Set-Cookie: a=b; Path=/'];
  expect(response('GET', true, ...head)).toContain('Location: //8000-x.localhost//a%2Fb/..;/?q');
  const below = { port: 8000, prefix: '/proxy/x/8000', host: 'edge' };
  const options = { method: 'GET', place: below, keepsAlive: true };
  expect(lines(responseForClient(parseResponseHead(bytes(...head), 'GET'), options)).slice(1, 3)).toEqual([
    'Location: /proxy/x/8000//a%2Fb/..;/?q',
    'Set-Cookie: a=b; Path=/proxy/x/8000/',
  ]);
});
