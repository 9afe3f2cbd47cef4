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

test.each([
  `8000-${id}.sandboxes.example`,
  `8000-${id}.sandboxes.example:9480`,
  `8000-${id}.SANDBOXES.Example`,
  `8000-${id}.sandboxes.example.`,
])('the host %s names sandbox and port, and the path is the guest`s', (host) => {
  expect(route('/proxy/x', host)).toEqual({ kind: 'guest', sandboxId: id, port: 8000, target: '/proxy/x', prefix: '' });
});

test.each([
  ['SANDBOX_NOT_FOUND', '/proxy/cl-1/80/', undefined],
  ['SANDBOX_NOT_FOUND', `/proxy/${id.toUpperCase()}/80/`, undefined],
  ['SANDBOX_NOT_FOUND', `/proxy/${id}0/80/`, undefined],
  ['SANDBOX_NOT_FOUND', `/proxy/%63${id.slice(1)}/80/`, undefined],
  ['SANDBOX_NOT_FOUND', '/proxy/', undefined],
  ['SANDBOX_NOT_FOUND', '/proxy//', undefined],
  ['SANDBOX_NOT_FOUND', '/', '80-cl-x.sandboxes.example'],
  ['SANDBOX_NOT_FOUND', '/', `80-${id.toUpperCase()}.sandboxes.example`],
  ['SANDBOX_NOT_FOUND', '/', `80-x.${id}.sandboxes.example`],
  ['SANDBOX_NOT_FOUND', '/', '80-.sandboxes.example'],
  ['ROUTE_NOT_FOUND', `/proxy/${id}/0/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}/65536/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}/080/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}/8o/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}/+80/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}//80/`, undefined],
  ['ROUTE_NOT_FOUND', `/proxy/${id}`, undefined],
  ['ROUTE_NOT_FOUND', '/', `0-${id}.sandboxes.example`],
  ['ROUTE_NOT_FOUND', '/', `99999999999999999999-${id}.sandboxes.example`],
  ['PORT_CLOSED', `/proxy/${id}/49983/`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/etc/shadow`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x&signature=`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x&signature`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x&Signature=v1_x`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x&xsignature=v1_x`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x&signature_expiration=1`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?path=/x;signature=v1_x`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files?signature=a&signature=b`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files/?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983//files?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/./files?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/%66iles?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/FILES?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/files/../init?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/init?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/process.Process/Start?signature=a`, undefined],
  ['PORT_CLOSED', `/proxy/${id}/49983/?/files?signature=a`, undefined],
  ['PORT_CLOSED', '/init?signature=a', `49983-${id}.sandboxes.example`],
  ['PORT_CLOSED', '/', `49983-${id}.sandboxes.example`],
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

const signed = '/files?path=%2Fx&signature=v1_a%2Bb&signature_expiration=9';
test.each(['GET', 'HEAD', 'POST'])('a signed URL of a file leads to the agent: %s', (method) => {
  const guest = { kind: 'guest', sandboxId: id, port: 49_983, target: signed };
  const prefix = `/proxy/${id}/49983`;
  expect(route(prefix + signed, 'a', method)).toEqual({ ...guest, prefix });
  expect(route(signed, `49983-${id}.sandboxes.example`, method)).toEqual({ ...guest, prefix: '' });
});

test('nothing else may be done with a signed URL', () => {
  for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'get', 'PROPFIND']) {
    expect(() => route(`/proxy/${id}/49983${signed}`, 'a', method)).toThrow('signed URLs');
  }
  const upgrade = { method: 'GET', target: `/proxy/${id}/49983${signed}`, host: 'a', upgrade: 'websocket' };
  expect(() => routeOf(upgrade, 'sandboxes.example')).toThrow('signed URLs');
});

test('health is asked where no sandbox is named', () => {
  expect(route('/healthz')).toEqual({ kind: 'health' });
  expect(route('/healthz?x', '127.0.0.1:9480', 'HEAD')).toEqual({ kind: 'health' });
  expect(codeOf('/healthz', '80-cl-x.sandboxes.example')).toBe('SANDBOX_NOT_FOUND');
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
      expect(['ROUTE_NOT_FOUND', 'SANDBOX_NOT_FOUND']).toContain(codeOf('/', host));
    }
  }
});
