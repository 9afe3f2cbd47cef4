// The table is ours, drawn from RFC 9110, RFC 9112 and the published shapes of request smuggling.
import { expect, test } from 'vitest';

import { findHeadEnd } from './fields.ts';
import { Refusal } from './refusal.ts';
import { parseRequestHead } from './request-head.ts';

function parse(text: string) {
  const bytes = Buffer.from(text, 'latin1');
  expect(findHeadEnd(bytes, 0)).toBe(bytes.length);
  return parseRequestHead(bytes);
}

// Why bytes are refused: by the scan for the end of the head, or by reading it.
function refusalOf(text: string): string | undefined {
  const bytes = Buffer.from(text, 'latin1');
  try {
    const end = findHeadEnd(bytes, 0);
    if (end === undefined) return 'incomplete';
    parseRequestHead(bytes.subarray(0, end));
    return undefined;
  } catch (error) {
    return error instanceof Refusal ? error.code : (error as Error).name;
  }
}

const head = (...lines: string[]) => `${lines.join('\r\n')}\r\n\r\n`;
const get = (...fields: string[]) => head('GET / HTTP/1.1', 'Host: a', ...fields);

test('a plain request is read byte for byte', () => {
  const request = parse(
    head('POST //a%2Fb/..;/?q=%00&x HTTP/1.1', 'Host: a:80', 'X-Empty:', 'Cookie: \t a=b; c \t', 'X-Byte: \xe9'),
  );
  expect(request).toMatchObject({
    method: 'POST',
    target: '//a%2Fb/..;/?q=%00&x',
    host: 'a:80',
    framing: { kind: 'none' },
  });
  expect(request.fields.map(({ key, value }) => [key, value])).toEqual([
    ['host', 'a:80'],
    ['x-empty', ''],
    ['cookie', 'a=b; c'],
    ['x-byte', '\xe9'],
  ]);
});

test.each([
  ['GET', 'a method'],
  ['M-SEARCH', 'a method with a dash'],
  ["!#$%&'*+-.^_`|~09AZaz", 'every character of a token'],
])('%s is %s', (method) => {
  expect(parse(head(`${method} / HTTP/1.1`, 'Host: a')).method).toBe(method);
});

test.each(['a', 'a.b.', 'A_b-c.d:1', '127.0.0.1:65535', '[::1]', '[::ffff:1.2.3.4]:80', 'xn--bcher-kva.example'])(
  '%s is a Host',
  (host) => {
    expect(parse(head('GET / HTTP/1.1', `Host: ${host}`)).host).toBe(host);
  },
);

test('bodies are framed by one length or by chunks', () => {
  expect(parse(get('Content-Length: 0')).framing).toEqual({ kind: 'length', length: 0 });
  expect(parse(get('content-LENGTH:42')).framing).toEqual({ kind: 'length', length: 42 });
  expect(parse(get('Content-Length: 007')).framing).toEqual({ kind: 'length', length: 7 });
  expect(parse(get('Transfer-Encoding: Chunked')).framing).toEqual({ kind: 'chunked' });
});

test('an absolute target is taken when it names the Host', () => {
  expect(parse(head('GET HTTP://A:80/x?y HTTP/1.1', 'Host: a:80')).target).toBe('/x?y');
  expect(parse(head('GET http://a?y HTTP/1.1', 'Host: a')).target).toBe('/?y');
  expect(parse(head('GET http://a HTTP/1.1', 'Host: a')).target).toBe('/');
});

test('an offer to change the protocol is kept as sent, h2c and offers of several are not', () => {
  expect(parse(get('Connection: keep-alive, Upgrade', 'Upgrade: WebSocket')).upgrade).toBe('WebSocket');
  expect(
    parse(get('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk')).upgrade,
  ).toBeUndefined();
  expect(parse(get('Connection: Upgrade', 'Upgrade: websocket, h2c')).upgrade).toBeUndefined();
  expect(parse(get('Upgrade: websocket')).upgrade).toBeUndefined();
});

const refused: readonly (readonly [string, string, string])[] = [
  // The request line.
  ['HTTP2_REFUSED', 'the HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['BadMessage', 'a TLS client', '\x16\x03\x01\x02\x00\x01\x00'],
  ['BadMessage', 'an empty line first', '\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['BadMessage', 'a space first', ' GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['BAD_REQUEST', 'HTTP/1.0 without a Host', head('GET / HTTP/1.0')],
  ['BAD_REQUEST', 'chunks of HTTP/1.0', head('POST / HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked')],
  ['METHOD_NOT_ALLOWED', 'TRACE', head('TRACE / HTTP/1.1', 'Host: a')],
  ['VERSION_NOT_SUPPORTED', 'HTTP/1.2', head('GET / HTTP/1.2', 'Host: a')],
  ['VERSION_NOT_SUPPORTED', 'HTTP/2.0', head('GET / HTTP/2.0', 'Host: a')],
  ['BAD_REQUEST', 'HTTP/0.9', head('GET /')],
  ['BAD_REQUEST', 'a version in small letters', head('GET / http/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a version of three digits', head('GET / HTTP/1.10', 'Host: a')],
  ['BAD_REQUEST', 'a version followed by a space', head('GET / HTTP/1.1 ', 'Host: a')],
  ['BAD_REQUEST', 'two spaces', head('GET  / HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a tab between', head('GET\t/ HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a space in the target', head('GET /a b HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a second request in the target', head('GET / HTTP/1.1 GET /b HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a method with a bracket', head('G[T / HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a fragment', head('GET /#x HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a byte above 126 in the target', head('GET /\xe9 HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'a target that is no path', head('GET a HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'an asterisk', head('OPTIONS * HTTP/1.1', 'Host: a')],
  ['METHOD_NOT_ALLOWED', 'CONNECT', head('CONNECT a:80 HTTP/1.1', 'Host: a:80')],
  ['BAD_REQUEST', 'an absolute target of another host', head('GET http://b/ HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'an absolute target with another port', head('GET http://a:81/ HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'an absolute target with user information', head('GET http://u@a/ HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'an absolute target of another scheme', head('GET https://a/ HTTP/1.1', 'Host: a')],
  ['BAD_REQUEST', 'an absolute target without a host', head('GET http:/// HTTP/1.1', 'Host: a')],
  // Lines.
  ['BadMessage', 'a bare LF after the request line', 'GET / HTTP/1.1\nHost: a\r\n\r\n'],
  ['BadMessage', 'a bare LF after a field', 'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n'],
  ['BadMessage', 'two bare LFs at the end', 'GET / HTTP/1.1\r\nHost: a\n\n'],
  ['BadMessage', 'a bare CR in a value', 'GET / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n'],
  ['BadMessage', 'CR CR LF', 'GET / HTTP/1.1\r\r\nHost: a\r\n\r\n'],
  ['BadMessage', 'NUL in a value', get('X: a\0b')],
  ['BadMessage', 'NUL in a name', get('X\0: b')],
  ['BadMessage', 'a vertical tab before a value', get('Transfer-Encoding:\x0bchunked')],
  ['BadMessage', 'DEL', get('X: \x7f')],
  ['BAD_REQUEST', 'a folded line', get('X: a', ' b')],
  ['BAD_REQUEST', 'a folded line by tab', get('X: a', '\tb')],
  ['BAD_REQUEST', 'a folded first field', head('GET / HTTP/1.1', ' Host: a')],
  ['BAD_REQUEST', 'a field without a colon', get('X')],
  ['BAD_REQUEST', 'a field without a name', get(': x')],
  ['BAD_REQUEST', 'a space before the colon', get('Content-Length : 5')],
  ['BAD_REQUEST', 'a tab before the colon', get('Transfer-Encoding\t: chunked')],
  ['BAD_REQUEST', 'a space in a name', get('X Y: z')],
  ['BAD_REQUEST', 'a name beyond ASCII', get('X\xe9: z')],
  // Host.
  ['BAD_REQUEST', 'no Host', head('GET / HTTP/1.1')],
  ['BAD_REQUEST', 'two Hosts', get('Host: b')],
  ['BAD_REQUEST', 'two Hosts that agree', get('host: a')],
  ['BAD_REQUEST', 'an empty Host', head('GET / HTTP/1.1', 'Host:')],
  ['BAD_REQUEST', 'a Host with user information', head('GET / HTTP/1.1', 'Host: u@a')],
  ['BAD_REQUEST', 'a Host with a path', head('GET / HTTP/1.1', 'Host: a/b')],
  ['BAD_REQUEST', 'a Host with a list', head('GET / HTTP/1.1', 'Host: a, b')],
  ['BAD_REQUEST', 'a Host with a space', head('GET / HTTP/1.1', 'Host: a b')],
  ['BAD_REQUEST', 'a Host with an open bracket', head('GET / HTTP/1.1', 'Host: [::1')],
  ['BAD_REQUEST', 'a Host with an empty address', head('GET / HTTP/1.1', 'Host: []')],
  ['BAD_REQUEST', 'a Host with a port of letters', head('GET / HTTP/1.1', 'Host: a:8o')],
  ['BAD_REQUEST', 'a Host with an empty port', head('GET / HTTP/1.1', 'Host: a:')],
  ['BAD_REQUEST', 'a Host with two ports', head('GET / HTTP/1.1', 'Host: a:1:2')],
  ['BAD_REQUEST', 'a Host with a percent', head('GET / HTTP/1.1', 'Host: a%2eb')],
  ['BAD_REQUEST', 'a Host of 1,000 characters', head('GET / HTTP/1.1', `Host: ${'a'.repeat(1000)}`)],
  // Framing.
  ['BAD_REQUEST', 'Content-Length and Transfer-Encoding', get('Content-Length: 5', 'Transfer-Encoding: chunked')],
  ['BAD_REQUEST', 'Transfer-Encoding and Content-Length', get('Transfer-Encoding: chunked', 'Content-Length: 5')],
  ['BAD_REQUEST', 'two lengths', get('Content-Length: 5', 'Content-Length: 6')],
  ['BAD_REQUEST', 'two lengths that agree', get('Content-Length: 5', 'Content-Length: 5')],
  ['BAD_REQUEST', 'a list of lengths', get('Content-Length: 5, 5')],
  ['BAD_REQUEST', 'a signed length', get('Content-Length: +5')],
  ['BAD_REQUEST', 'a negative length', get('Content-Length: -1')],
  ['BAD_REQUEST', 'a length in hex', get('Content-Length: 0x5')],
  ['BAD_REQUEST', 'an empty length', get('Content-Length:')],
  ['BAD_REQUEST', 'a length with a space', get('Content-Length: 1 2')],
  ['BAD_REQUEST', 'a length with an underscore', get('Content-Length: 1_0')],
  ['BAD_REQUEST', 'a length beyond 2^53', get('Content-Length: 18446744073709551616')],
  ['BAD_REQUEST', 'a length in other digits', get('Content-Length: \xb2')],
  ['BAD_REQUEST', 'chunked twice', get('Transfer-Encoding: chunked, chunked')],
  ['BAD_REQUEST', 'two Transfer-Encodings', get('Transfer-Encoding: chunked', 'Transfer-Encoding: identity')],
  ['BAD_REQUEST', 'identity', get('Transfer-Encoding: identity')],
  ['BAD_REQUEST', 'gzip and chunked', get('Transfer-Encoding: gzip, chunked')],
  ['BAD_REQUEST', 'xchunked', get('Transfer-Encoding: xchunked')],
  ['BAD_REQUEST', 'chunked in quotes', get('Transfer-Encoding: "chunked"')],
  ['BAD_REQUEST', 'chunked with a parameter', get('Transfer-Encoding: chunked;q=1')],
  ['BAD_REQUEST', 'chunked with a comma', get('Transfer-Encoding: ,chunked')],
  ['BAD_REQUEST', 'an empty Transfer-Encoding', get('Transfer-Encoding:')],
  [
    'BAD_REQUEST',
    'a body before a change of protocol',
    get('Connection: upgrade', 'Upgrade: websocket', 'Content-Length: 5'),
  ],
  ['EXPECTATION_FAILED', 'another expectation', get('Expect: 200-ok')],
  // Size.
  ['HEAD_TOO_LARGE', 'a hundred and one fields', get(...Array.from({ length: 100 }, (_, n) => `X-${n}: y`))],
  ['incomplete', 'a head without its end', 'GET / HTTP/1.1\r\nHost: a\r\n'],
  ['incomplete', 'nothing', ''],
];

test.each(refused)('%s: %s', (code, _what, text) => {
  expect(refusalOf(text)).toBe(code);
});

test('a hundred fields pass', () => {
  expect(parse(get(...Array.from({ length: 99 }, (_, n) => `X-${n}: y`))).fields).toHaveLength(100);
});

test('a head that comes byte by byte ends where one that comes at once ends', () => {
  const bytes = Buffer.from(`${get('X: y')}body\r\n\r\n`);
  let end: number | undefined;
  for (let length = 1; end === undefined; length++) end = findHeadEnd(bytes.subarray(0, length), length - 1);
  expect(end).toBe(findHeadEnd(bytes, 0));
});

test('no order of hostile bytes makes the parser throw anything but a refusal', () => {
  const parts = [
    'GET ',
    '/',
    ' HTTP/1.1',
    '\r\n',
    'Host: a',
    ':',
    ' ',
    '\t',
    'Content-Length',
    '5',
    'chunked',
    'Transfer-Encoding',
    '\n',
    '\r',
    ',',
    '\xff',
    'http://',
    '[',
    ']',
    '@',
  ];
  let seed = 7;
  const next = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % below;
  for (let round = 0; round < 20_000; round++) {
    const text = Array.from({ length: next(14) }, () => parts[next(parts.length)]).join('');
    expect([undefined, 'incomplete', 'BadMessage', 'BAD_REQUEST', 'VERSION_NOT_SUPPORTED']).toContain(
      refusalOf(`${text}\r\n\r\n`),
    );
  }
});
