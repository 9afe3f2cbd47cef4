import { expect, test } from 'vitest';

import { BadMessage } from './fields.ts';
import { parseResponseHead } from './response-head.ts';

const parse = (method: string, ...lines: string[]) =>
  parseResponseHead(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), method);

test.each([
  ['a length', 'GET', ['HTTP/1.1 200 OK', 'Content-Length: 5'], { kind: 'length', length: 5 }],
  ['chunks', 'GET', ['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], { kind: 'chunked' }],
  ['the end of the connection', 'GET', ['HTTP/1.1 200 OK'], { kind: 'close' }],
  ['the end of the connection of HTTP/1.0', 'GET', ['HTTP/1.0 200'], { kind: 'close' }],
  ['HEAD', 'HEAD', ['HTTP/1.1 200 OK', 'Content-Length: 5'], { kind: 'none' }],
  ['204', 'GET', ['HTTP/1.1 204 No Content'], { kind: 'none' }],
  ['304', 'GET', ['HTTP/1.1 304 Not Modified', 'Content-Length: 5'], { kind: 'none' }],
  ['100', 'POST', ['HTTP/1.1 100 Continue'], { kind: 'none' }],
] as const)('a body is framed by %s', (_what, method, lines, framing) => {
  expect(parse(method, ...lines).framing).toEqual(framing);
});

test('a phrase may be empty, missing or beyond ASCII', () => {
  expect(parse('GET', 'HTTP/1.1 200').phrase).toBe('');
  expect(parse('GET', 'HTTP/1.1 200 ').phrase).toBe('');
  expect(parse('GET', 'HTTP/1.1 404 Nicht hi\xe9r').phrase).toBe('Nicht hi\xe9r');
});

test.each([
  ['HTTP/2 200 OK'],
  ['HTTP/1.1 20 OK'],
  ['HTTP/1.1 2000 OK'],
  ['HTTP/1.1 099 OK'],
  ['HTTP/1.1  200 OK'],
  ['ICY 200 OK'],
  ['SSH-2.0-OpenSSH_9.2'],
  ['HTTP/1.1 200 OK', 'Content-Length: 5', 'Content-Length: 5'],
  ['HTTP/1.1 200 OK', 'Content-Length: 5', 'Transfer-Encoding: chunked'],
  ['HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked'],
  ['HTTP/1.0 200 OK', 'Transfer-Encoding: chunked'],
  ['HTTP/1.1 200 OK', 'Content-Length: -5'],
  ['HTTP/1.1 200 OK', 'X: a', ' folded'],
])('refuses %s', (...lines) => {
  expect(() => parse('GET', ...lines)).toThrow(BadMessage);
});
