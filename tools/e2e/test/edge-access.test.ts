// Who reaches the ports of a real sandbox through the edge, who wakes one, and what everybody else is told.
import { readFile, readdir } from 'node:fs/promises';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';
import { join } from 'node:path';

import { slotOfAddress } from '@wrenn/cli/leak-check/scope';
import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';
import { type SandboxAccess, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { runCli } from '../src/run-cli.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['debian', 'minimal'], logLevel: 'debug' });
let guest: Guest;
let access: SandboxAccess;

// Answers a request with its own head, or changes the protocol and echoes.
const server = `
import socket, sys, threading
def serve(client):
    head = b''
    while b'\\r\\n\\r\\n' not in head:
        part = client.recv(65536)
        if not part: return client.close()
        head += part
    head, rest = head.split(b'\\r\\n\\r\\n', 1)
    if b'\\r\\nupgrade:' in head.lower():
        client.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n' + rest)
        while part := client.recv(65536): client.sendall(part)
    else:
        client.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(head) + head)
    client.close()
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()`;

async function serve(on: Guest, port: number): Promise<void> {
  const process = { command: 'python3', args: ['-c', server, String(port)] };
  await mesh.now.client.processes.start({ sandboxId: on.id, process })[Symbol.asyncIterator]().next();
}

async function accessOf({ id }: Guest): Promise<SandboxAccess> {
  const answer = await mesh.now.client.sandboxes.getAccess({ sandboxId: id }, inMs(10_000));
  return answer.access!;
}

const edgeAddress = () => mesh.now.mesh.addresses.edgeProxy;
const urlOf = (to: Guest, port: number, rest = '/') => `http://${edgeAddress()}/proxy/${to.id}/${port}${rest}`;
const get = (to: Guest, port: number, headers: Record<string, string> = {}, rest = '/') =>
  fetch(urlOf(to, port, rest), { headers, redirect: 'manual' });
const statusOf = async (...asked: Parameters<typeof get>) => (await get(...asked)).status;
const codeOf = async (answer: Response) => ((await answer.json()) as { error: { code: string } }).error.code;
const shown = () => ({ 'X-Wrenn-Token': access.trafficToken });

// All that the edge sends for these bytes until it closes, or until `enough`.
function raw(bytes: string): {
  readonly socket: Socket;
  readonly text: () => string;
  readonly closed: Promise<string>;
} {
  const [host = '', port] = edgeAddress().split(':');
  const socket = connect(Number(port), host);
  let text = '';
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece));
  socket.on('error', () => socket.destroy());
  socket.write(bytes, 'latin1');
  return { socket, text: () => text, closed: new Promise((resolve) => socket.on('close', () => resolve(text))) };
}

const byHost = (host: string, path = '/') =>
  raw(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`).closed;

beforeAll(async () => {
  guest = await mesh.now.create('debian', { secure: true, publicPorts: [8001], autoResume: true });
  access = await accessOf(guest);
  await Promise.all([serve(guest, 8000), serve(guest, 8001)]);
  await eventually(
    'both are served',
    async () => {
      const statuses = [await statusOf(guest, 8000, shown()), await statusOf(guest, 8001)];
      return statuses.every((status) => status === 200);
    },
    60_000,
  );
});

test('a token opens a port in each of its forms, and no program in the guest sees it', async () => {
  const { trafficToken: token } = access;
  const label = `8000-${guest.id}`;
  const bodies = [
    await (await get(guest, 8000, shown())).text(),
    await (await get(guest, 8000, { Cookie: `a=b; wrenn-token=${token}` })).text(),
    await (await get(guest, 8000, {}, `/x?y&wrenn_token=${token}`)).text(),
    await byHost(`${label}-${token}.localhost`),
  ];
  expect(bodies[0]).toContain('GET / HTTP/1.1');
  expect(bodies[1]).toMatch(/\r\ncookie: a=b\r\n/i);
  expect(bodies[2]).toContain('GET /x?y HTTP/1.1');
  expect(bodies[3]).toContain(`Host: ${label}.localhost\r\n`);
  for (const body of bodies) expect(body).not.toContain(token);
});

test('a browser gets a cookie instead of the token in its address bar', async () => {
  const { trafficToken: token } = access;
  const sent = await get(guest, 8000, { Accept: 'text/html' }, `/page?wrenn_token=${token}`);
  expect([sent.status, sent.headers.get('location')]).toEqual([302, `/proxy/${guest.id}/8000/page`]);
  const cookie = sent.headers.getSetCookie()[0] ?? '';
  expect(cookie).toContain('HttpOnly');
  expect(await statusOf(guest, 8000, { Cookie: cookie.split(';')[0] ?? '' }, '/page')).toBe(200);
});

test('without it, with a wrong one, or with another sandbox’s, one is told what one is told of no sandbox', async () => {
  const other = await mesh.now.create('minimal', { secure: true });
  const others = await accessOf(other);
  const nowhere = await (await fetch(`http://${edgeAddress()}/proxy/cl-${'0'.repeat(25)}/8000/`)).text();
  for (const headers of [
    {},
    { 'X-Wrenn-Token': 'a'.repeat(25) },
    { 'X-Wrenn-Token': others.trafficToken },
    { 'X-Access-Token': access.accessToken },
    { Cookie: `wrenn-token=${access.trafficToken}`, Origin: 'http://elsewhere.example' },
  ]) {
    const answer = await get(guest, 8000, headers as Record<string, string>);
    expect([answer.status, await answer.text()]).toEqual([404, nowhere]);
  }
  const { trafficToken: wrong } = others;
  expect(await byHost(`8000-${guest.id}-${wrong}.localhost`)).toContain(' 404 ');
  await other.destroy();
  expect(await statusOf(other, 8000, { 'X-Wrenn-Token': wrong })).toBe(404);
});

test('a public port takes no token, and a sandbox that is not secure none at all', async () => {
  expect(await statusOf(guest, 8001)).toBe(200);
  const set = (secure: boolean, publicPorts: number[]) =>
    mesh.now.client.sandboxes.setAccess({ sandboxId: guest.id, secure, publicPorts }, inMs(10_000));
  await set(false, []);
  await eventually('it is open', async () => (await statusOf(guest, 8000)) === 200);
  await set(true, [8001]);
  await eventually('it is closed', async () => (await statusOf(guest, 8000)) === 404);
  expect(await statusOf(guest, 8001)).toBe(200);
  expect(await statusOf(guest, 8000, shown())).toBe(200);
});

test('the agent’s whole API is there over HTTP/1.1 for who shows the agent’s token, and for nobody else', async () => {
  const call = (headers: Record<string, string>) =>
    fetch(urlOf(guest, 49_983, '/process.Process/List'), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: '{}',
    });
  const answer = await call({ 'X-Access-Token': access.accessToken });
  expect(answer.status).toBe(200);
  expect(JSON.stringify(await answer.json())).toContain('python3');
  const file = await fetch(urlOf(guest, 49_983, '/files?path=/etc/hostname&username=root'), {
    headers: { 'X-Access-Token': access.accessToken },
  });
  expect(file.status).toBe(200);
  for (const headers of [{}, shown(), { 'X-Access-Token': access.trafficToken }]) {
    expect((await call(headers as Record<string, string>)).status).toBe(404);
  }
});

describe('a paused sandbox that traffic resumes', () => {
  const stateOf = async () => (await guest.get()).state;

  test('is not woken by who may not reach it', async () => {
    await guest.pause();
    for (const rest of ['/', '/?wrenn_token=wrong']) expect(await statusOf(guest, 8000, {}, rest)).toBe(404);
    expect(await statusOf(guest, 49_983, {}, '/files?path=/etc/passwd&signature=v1_x')).toBe(404);
    expect(await stateOf()).toBe(SandboxState.PAUSED);
  });

  test('answers the request that wakes it, with the secrets of before', async () => {
    const answers = await Promise.all(Array.from({ length: 3 }, () => statusOf(guest, 8000, shown())));
    expect(answers).toEqual([200, 200, 200]);
    expect(await stateOf()).toBe(SandboxState.RUNNING);
    expect(await accessOf(guest)).toEqual(access);
  });

  test('is woken by a WebSocket too, which is open once it runs', async () => {
    await guest.pause();
    const upgrade = `Connection: Upgrade\r\nUpgrade: websocket\r\nX-Wrenn-Token: ${access.trafficToken}\r\n`;
    const client = raw(`GET /proxy/${guest.id}/8000/ HTTP/1.1\r\nHost: a\r\n${upgrade}\r\nahead`);
    await eventually('it is open', () => client.text().includes(' 101 '), 60_000);
    await eventually('what was sent ahead comes back', () => client.text().endsWith('ahead'), 20_000);
    client.socket.write(', behind');
    await eventually('what was sent behind, too', () => client.text().endsWith('ahead, behind'), 20_000);
    client.socket.destroy();
  });

  test('serves an URL that was signed before it was paused', async () => {
    const path = '/etc/hostname';
    const request = { sandboxId: guest.id, path, operation: UrlOperation.READ, ttl: durationOfMs(600_000) };
    const { url } = await mesh.now.client.files.signUrl(request, inMs(10_000));
    const before = await (await fetch(url)).text();
    await guest.pause();
    const answer = await fetch(url);
    expect([answer.status, await answer.text()]).toEqual([200, before]);
  });
});

test('a paused sandbox that traffic does not resume is 503, and one that is destroyed 404', async () => {
  const plain = await mesh.now.create('minimal');
  await plain.pause();
  const answer = await get(plain, 8000);
  expect([answer.status, await codeOf(answer)]).toEqual([503, 'SANDBOX_PAUSED']);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  expect((await plain.get()).state).toBe(SandboxState.PAUSED);
  await plain.destroy();
  const gone = await eventually('it is gone', async () => {
    const got = await get(plain, 8000);
    return got.status === 404 && got;
  });
  expect(await codeOf(gone)).toBe('NOT_FOUND');
});

test('no path and no Host lead anywhere but to the guest that is named', async () => {
  const neighbour = await mesh.now.create('minimal');
  await neighbour.sh('httpd -p 8000 -h /etc');
  expect(await statusOf(neighbour, 8000, {}, '/passwd')).toBe(200);
  const heard: string[] = [];
  const offset = 2 * (slotOfAddress(await guest.address()) ?? 0);
  const canaries = await Promise.all(
    ['127.0.0.1', `10.12.${offset >> 8}.${offset & 255}`].map(async (address) => {
      const canary = createServer((socket) => {
        heard.push(address);
        socket.destroy();
      });
      await new Promise<void>((resolve) => canary.listen(0, address, resolve));
      return { canary, place: `${address}:${(canary.address() as AddressInfo).port}` };
    }),
  );
  const { trafficToken: token } = access;
  const host = `8001-${guest.id}.localhost`;
  const places = [...canaries.map(({ place }) => place), `${await neighbour.address()}:8000`, '169.254.169.254:80'];
  const heads = places.flatMap((place) => [
    `GET http://${place}/ HTTP/1.1\r\nHost: ${host}`,
    `GET //${place}/ HTTP/1.1\r\nHost: ${host}`,
    `GET / HTTP/1.1\r\nHost: ${host}@${place}`,
    `GET / HTTP/1.1\r\nHost: ${place}`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: ${place}`,
    `GET / HTTP/1.1\r\nHost: ${host}\r\nX-Forwarded-Host: ${place}`,
    `GET /proxy/${place.replace(':', '/')}/ HTTP/1.1\r\nHost: a`,
    `GET /proxy/${guest.id}/8001//${place}/ HTTP/1.1\r\nHost: a`,
    `GET /proxy/${guest.id}/8001/../../${neighbour.id}/8000/ HTTP/1.1\r\nHost: ${place}`,
    `CONNECT ${place} HTTP/1.1\r\nHost: ${host}`,
    `GET /?wrenn_token=${token} HTTP/1.1\r\nHost: ${host}\r\nReferer: http://${place}/`,
  ]);
  const acceptedByNeighbour = () => neighbour.sh("grep '^Tcp: [0-9]' /proc/net/snmp | cut -d' ' -f7");
  const before = await acceptedByNeighbour();
  const answers = await Promise.all(heads.map((head) => raw(`${head}\r\nConnection: close\r\n\r\n`).closed));
  for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 (200|400|404|405) /);
  expect(heard).toEqual([]);
  expect(await acceptedByNeighbour()).toBe(before);
  await Promise.all(canaries.map(({ canary }) => new Promise((resolve) => canary.close(resolve))));
  await neighbour.destroy();
});

test('the command line tells who may reach a port, sets it, and prints URLs that work', async () => {
  const env = { WRENN_GATEWAY: mesh.now.mesh.addresses.gateway, WRENN_EDGE_URL: `http://${edgeAddress()}` };
  const cli = async (...args: string[]) => {
    const { code, stdout, stderr } = await runCli(args, { env });
    expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout.trim();
  };
  expect(await cli('access', guest.id, '--secure', '--public-port', '8001')).toContain(access.trafficToken);
  expect(await cli('inspect', guest.id)).toMatch(/ports\s+for who shows its token; 8001 open to everybody/);
  const [byPath = '', byName = ''] = (await cli('url', guest.id, '--port', '8000')).split('\n');
  expect(byName).toContain(`//8000-${guest.id}-${access.trafficToken}.localhost:`);
  expect((await fetch(byPath)).status).toBe(200);
  expect((await fetch(byPath.replace(access.trafficToken, 'x'))).status).toBe(404);
  const { byPath: open } = JSON.parse(await cli('url', guest.id, '--port', '8001', '--json')) as { byPath: string };
  expect(open).not.toContain(access.trafficToken);
  expect((await fetch(open)).status).toBe(200);
}, 240_000);

test('no log holds a secret', async () => {
  const files = await readdir(mesh.now.logsDir);
  const logs = await Promise.all(files.map((name) => readFile(join(mesh.now.logsDir, name), 'utf8')));
  expect(logs.join('')).toContain(guest.id);
  for (const secret of [access.trafficToken, access.accessToken]) expect(logs.join('').includes(secret)).toBe(false);
});

endsWithoutLeaks(mesh);
