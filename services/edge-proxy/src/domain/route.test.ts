import { expect, test } from 'vitest';

import { Refusal } from './refusal.ts';
import { routeOf } from './route.ts';

const id = 'cl-0123456789abcdefghijklmnz';
const route = (target: string, host = 'edge:9480', method = 'GET') =>
  routeOf({ method, target, host }, 'sandboxes.example');

function codeOf(target: string, host?: string): string | undefined {
  try {
    route(target, host);
    return undefined;
  } catch (error) {
    return error instanceof Refusal ? error.code : String(error);
  }
}

test.each([
  ['/', '/'],
  ['', '/'],
  ['?q=1', '/?q=1'],
  ['/dir/', '/dir/'],
  ['//x', '//x'],
  ['/a%2Fb/%2e%2e/..;/?x=/proxy/', '/a%2Fb/%2e%2e/..;/?x=/proxy/'],
  ['/?a?b', '/?a?b'],
])('a path prefix is taken off and %j is left as %j', (rest, target) => {
  expect(route(`/proxy/${id}/8000${rest}`)).toEqual({
    kind: 'guest',
    sandboxId: id,
    port: 8000,
    target,
    prefix: `/proxy/${id}/8000`,
  });
});

test.each(['', '/', '/dir/', '//x', '?q=1', '/a%2Fb/..;/?x'])(
  'a server that is told its path gets all of it: %j',
  (rest) => {
    const prefix = `/absproxy/${id}/8000`;
    const guest = { kind: 'guest', sandboxId: id, port: 8000 };
    expect(route(prefix + rest)).toEqual({ ...guest, target: prefix + rest, prefix, keepsPrefix: true });
  },
);

test.each([
  `8000-${id}.sandboxes.example`,
  `8000-${id}.sandboxes.example:9480`,
  `8000-${id}.SANDBOXES.Example`,
  `8000-${id}.sandboxes.example.`,
])('the host %s names sandbox and port, and the path is the guest`s', (host) => {
  expect(route('/proxy/x', host)).toEqual({ kind: 'guest', sandboxId: id, port: 8000, target: '/proxy/x', prefix: '' });
});

test.each([
  ['NOT_FOUND', '/proxy/cl-1/80/', undefined],
  ['NOT_FOUND', `/proxy/${id.toUpperCase()}/80/`, undefined],
  ['NOT_FOUND', `/proxy/${id}0/80/`, undefined],
  ['NOT_FOUND', `/proxy/%63${id.slice(1)}/80/`, undefined],
  ['NOT_FOUND', '/proxy/', undefined],
  ['NOT_FOUND', '/proxy//', undefined],
  ['NOT_FOUND', '/', '80-cl-x.sandboxes.example'],
  ['NOT_FOUND', '/', `80-${id.toUpperCase()}.sandboxes.example`],
  ['NOT_FOUND', '/', `80-x.${id}.sandboxes.example`],
  ['NOT_FOUND', '/', '80-.sandboxes.example'],
  ['NOT_FOUND', `/proxy/${id}/0/`, undefined],
  ['NOT_FOUND', `/proxy/${id}/65536/`, undefined],
  ['NOT_FOUND', `/proxy/${id}/080/`, undefined],
  ['NOT_FOUND', `/proxy/${id}/8o/`, undefined],
  ['NOT_FOUND', `/proxy/${id}/+80/`, undefined],
  ['NOT_FOUND', `/proxy/${id}//80/`, undefined],
  ['NOT_FOUND', `/proxy/${id}`, undefined],
  ['NOT_FOUND', '/', `0-${id}.sandboxes.example`],
  ['NOT_FOUND', '/', `99999999999999999999-${id}.sandboxes.example`],
  ['NOT_FOUND', '/absproxy/cl-1/80/', undefined],
  ['NOT_FOUND', `/absproxy/${id}/0/`, undefined],
  ['ROUTE_NOT_FOUND', `/absproxyx/${id}/80/`, undefined],
  ['ROUTE_NOT_FOUND', '/', undefined],
  ['ROUTE_NOT_FOUND', '/other', undefined],
  ['ROUTE_NOT_FOUND', '/proxyx/', undefined],
  ['ROUTE_NOT_FOUND', '/', `80-${id}.other.example`],
  ['ROUTE_NOT_FOUND', '/', `80-${id}.evilsandboxes.example`],
  ['ROUTE_NOT_FOUND', '/', '[::1]:80'],
  ['ROUTE_NOT_FOUND', '/', 'sandboxes.example'],
  ['ROUTE_NOT_FOUND', '/', '.sandboxes.example'],
] as const)('%s for %s at %s', (code, target, host) => {
  expect(codeOf(target, host)).toBe(code);
});

const token = 'abcdefghijklmnopqrstuvwxy';

test('a host may name a token behind the sandbox', () => {
  const guest = { kind: 'guest', sandboxId: id, port: 8000, target: '/x', prefix: '', token };
  expect(route('/x', `8000-${id}-${token}.sandboxes.example:9480`)).toEqual(guest);
  expect(route('/x', `8000-${id}-${token}.Sandboxes.Example.`)).toEqual(guest);
});

test.each([token.toUpperCase(), token.slice(1), `${token}0`, `${token.slice(1)}_`, '', `${token}-${token}`])(
  'what is no token makes the host one of no sandbox: %j',
  (text) => expect(codeOf('/', `8000-${id}-${text}.sandboxes.example`)).toBe('NOT_FOUND'),
);

test('health is asked where no sandbox is named', () => {
  expect(route('/healthz')).toEqual({ kind: 'health' });
  expect(route('/healthz?x', '127.0.0.1:9480', 'HEAD')).toEqual({ kind: 'health' });
  expect(codeOf('/healthz', '80-cl-x.sandboxes.example')).toBe('NOT_FOUND');
  expect(() => route('/healthz', 'a', 'POST')).toThrow(Refusal);
});

test('no Host of any bytes throws anything but a refusal', () => {
  for (let code = 0; code < 256; code++) {
    const char = String.fromCharCode(code);
    for (const host of [
      char,
      `${char}.sandboxes.example`,
      `80${char}.sandboxes.example`,
      `80-${char}.sandboxes.example`,
      `80-${id}${char}`,
    ]) {
      expect(['ROUTE_NOT_FOUND', 'NOT_FOUND']).toContain(codeOf('/', host));
    }
  }
});
