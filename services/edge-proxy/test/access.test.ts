// Who reaches a sandbox, who wakes one, and what everybody else is told, over real sockets.
import { WrennError } from '@wrenn/kit/errors';
import { fileSignature } from '@wrenn/kit/file-signature';
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { newTrafficToken } from '@wrenn/kit/tokens';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { answering, exchange, guestAddress, rawClient, serving, startEdge, startGuest } from './edge.ts';

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
const bodyOf = (response: string) => response.slice(response.indexOf('\r\n\r\n') + 4);
const statusOf = (response: string) => Number(response.slice(9, 12));
const codeOf = (response: string) => JSON.parse(bodyOf(response)).error.code as string;

async function startSecure() {
  const edge = await startEdge();
  edge.access.secure = true;
  const get = (port: number, fields = '', rest = '/') =>
    exchange(edge.port, `GET /proxy/${edge.sandboxId}/${port}${rest} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`);
  return Object.assign(edge, { get });
}

test('a secure sandbox is reached with its token, in each of four ways, and its server never sees it', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(serving(() => ok));
  const { trafficToken: token } = edge.access;
  const byHost = (label: string) =>
    exchange(edge.port, `GET / HTTP/1.1\r\nHost: ${label}.localhost\r\nConnection: close\r\n\r\n`);
  const label = `${guest.port}-${edge.sandboxId}`;
  for (const answer of await Promise.all([
    edge.get(guest.port, `X-Wrenn-Token: ${token}\r\n`),
    edge.get(guest.port, `Cookie: wrenn-token=${token}\r\n`),
    edge.get(guest.port, '', `/?wrenn_token=${token}`),
    byHost(`${label}-${token}`),
  ])) {
    expect(bodyOf(answer)).toBe('hello');
  }
  expect(guest.received()).not.toContain(token);
  expect(guest.received()).toContain(`Host: ${label}.localhost\r\n`);
  expect(statusOf(await byHost(label))).toBe(404);
  expect(statusOf(await byHost(`${label}-${newTrafficToken()}`))).toBe(404);
});

test('a browser is sent to where the token is out of sight, with a cookie that lets it in', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(serving(() => ok));
  const sent = await edge.get(guest.port, 'Accept: text/html\r\n', `/a?x=1&wrenn_token=${edge.access.trafficToken}`);
  expect(statusOf(sent)).toBe(302);
  expect(sent).toContain(`\r\nLocation: /proxy/${edge.sandboxId}/${guest.port}/a?x=1\r\n`);
  const cookie = /\r\nSet-Cookie: ([^;]+);/.exec(sent)?.[1];
  expect(bodyOf(await edge.get(guest.port, `Cookie: ${cookie}\r\n`, '/a?x=1'))).toBe('hello');
  expect(guest.sockets).toHaveLength(1);
});

test('the response to who shows the token sets the cookie beside those of the guest', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(
    serving(() => 'HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n'),
  );
  const answer = await edge.get(guest.port, `X-Wrenn-Token: ${edge.access.trafficToken}\r\n`);
  expect(answer.match(/^Set-Cookie: [^=]+/gm)).toEqual(['Set-Cookie: a', 'Set-Cookie: wrenn-token']);
});

test('a redirect to its own host keeps the token that the client came with', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(
    serving((head) => {
      const host = /^host: (.*)$/im.exec(head)?.[1];
      return `HTTP/1.1 302 Found\r\nLocation: http://${host}/next\r\nContent-Length: 0\r\n\r\n`;
    }),
  );
  const host = `${guest.port}-${edge.sandboxId}-${edge.access.trafficToken}.localhost:1234`;
  const answer = await exchange(edge.port, `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  expect(answer).toContain(`\r\nLocation: http://${host}/next\r\n`);
});

test('what is not there and what is not for one get the same answer, no sooner than a lookup takes', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(answering(ok));
  const paused = edge.addSandbox();
  edge.guests.set(paused, '');
  edge.accessOf(paused).secure = true;
  edge.wakes.ids.add(paused);
  const get = (path: string) => exchange(edge.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
  const paths = [
    `/proxy/${edge.sandboxId}/${guest.port}/`,
    `/proxy/${edge.sandboxId}/${guest.port}/?wrenn_token=${newTrafficToken()}`,
    `/proxy/${edge.sandboxId}/1/`,
    `/proxy/${edge.sandboxId}/49983/`,
    `/proxy/${edge.sandboxId}/49983/files?path=/x&signature=v1_x`,
    `/proxy/${paused}/80/`,
    `/proxy/${newSandboxId()}/80/`,
    `/proxy/${newSandboxId()}/49983/files?path=/x&signature=v1_x`,
  ];
  const [first, ...rest] = await Promise.all(paths.map(get));
  expect([statusOf(first!), codeOf(first!)]).toEqual([404, 'NOT_FOUND']);
  expect(new Set(rest)).toEqual(new Set([first]));
  expect(await get(`/proxy/${edge.sandboxId}/65536/`)).toBe(first);
  for (const path of paths) {
    const beganMs = performance.now();
    await get(path);
    expect(performance.now() - beganMs).toBeGreaterThan(45);
  }
  expect(guest.sockets).toHaveLength(0);
  expect(edge.wakes.count).toBe(0);
});

test('those who may not reach a sandbox take no share of what it may be sent', async () => {
  await using edge = await startEdge({ maxPerSandbox: 1 });
  edge.access.secure = true;
  await using guest = await startGuest(serving(() => ok));
  const path = `/proxy/${edge.sandboxId}/${guest.port}/`;
  const strangers = Array.from({ length: 20 }, () => exchange(edge.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`));
  const shown = `GET ${path} HTTP/1.1\r\nHost: a\r\nX-Wrenn-Token: ${edge.access.trafficToken}\r\n\r\n`;
  expect(statusOf(await exchange(edge.port, shown))).toBe(200);
  expect((await Promise.all(strangers)).map(statusOf)).toEqual(Array(20).fill(404));
});

test('access that is set holds for the next request, on an open connection too', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => ok));
  const head = `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`;
  const client = rawClient(edge.port, head);
  await eventually('it is let in', () => client.text().endsWith('hello'));
  edge.access.secure = true;
  edge.announceChange(edge.sandboxId);
  await eventually('404', () => {
    client.socket.write(head);
    return client.text().includes(' 404 ');
  });
  client.socket.destroy();
});

test('an agent is reached with its own token and by what was signed with it', async () => {
  await using edge = await startEdge();
  await using agent = await startGuest(
    serving(() => ok),
    49_983,
  );
  const { accessToken } = edge.access;
  const signature = fileSignature({ path: '/x', operation: 'read', user: '', accessToken, expiresAtS: undefined });
  const get = (rest: string, fields = '') =>
    exchange(edge.port, `GET /proxy/${edge.sandboxId}/49983${rest} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`);
  expect(statusOf(await get('/health'))).toBe(404);
  expect(statusOf(await get('/health', `X-Access-Token: ${edge.access.trafficToken}\r\n`))).toBe(404);
  expect(agent.sockets).toHaveLength(0);
  expect(statusOf(await get('/health', `X-Access-Token: ${accessToken}\r\n`))).toBe(200);
  expect(statusOf(await get(`/files?path=/x&signature=${encodeURIComponent(signature)}`))).toBe(200);
  expect(agent.received()).toContain(`X-Access-Token: ${accessToken}`);
});

const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
const switched = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

test('all who come to a paused sandbox wait for one resume, a WebSocket among them, and lose nothing', async () => {
  await using edge = await startSecure();
  await using guest = await startGuest(serving((head) => (head.includes('Upgrade') ? switched : ok)));
  edge.guests.set(edge.sandboxId, '');
  edge.wakes.ids.add(edge.sandboxId);
  const resumed = Promise.withResolvers<string>();
  edge.wakes.finish = () => resumed.promise;
  const token = `X-Wrenn-Token: ${edge.access.trafficToken}\r\n`;
  const gets = Array.from({ length: 5 }, () => edge.get(guest.port, token));
  const path = `/proxy/${edge.sandboxId}/${guest.port}/`;
  const socket = rawClient(edge.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n${token}${upgrade}\r\nahead`);
  await eventually('it is being resumed', () => edge.wakes.count === 1);
  expect(socket.text()).toBe('');
  resumed.resolve(guestAddress);
  expect((await Promise.all(gets)).map(bodyOf)).toEqual(Array(5).fill('hello'));
  await eventually('the WebSocket is open', () => socket.text().includes(' 101 '));
  await eventually('what was sent ahead has come', () => guest.received().includes('ahead'));
  expect(edge.wakes.count).toBe(1);
  socket.socket.destroy();
});

test('a resume that fails is 503 with its reason, and the next request tries again', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => ok));
  edge.guests.set(edge.sandboxId, '');
  edge.wakes.ids.add(edge.sandboxId);
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  edge.wakes.finish = async () => {
    throw new WrennError('NO_HOST_LEFT', 'full');
  };
  const refused = await get();
  expect([statusOf(refused), codeOf(refused)]).toEqual([503, 'SANDBOX_NOT_RESUMED']);
  expect(refused).toContain('NO_HOST_LEFT');
  expect(refused).toMatch(/\r\nRetry-After: \d+\r\n/);
  edge.wakes.finish = async () => guestAddress;
  expect(bodyOf(await get())).toBe('hello');
});

test('a sandbox that is destroyed is 404 from then on', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => ok));
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(statusOf(await get())).toBe(200);
  edge.guests.delete(edge.sandboxId);
  edge.announceChange(edge.sandboxId, SandboxState.DESTROYED);
  await eventually('404', async () => statusOf(await get()) === 404);
});

test('that a sandbox does not exist is asked once, until it does', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => ok));
  const id = newSandboxId();
  const get = () => exchange(edge.port, `GET /proxy/${id}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  for (let count = 0; count < 3; count++) expect(statusOf(await get())).toBe(404);
  expect(edge.lookups()).toBe(1);
  edge.guests.set(id, guestAddress);
  edge.announceChange(id);
  await eventually('200', async () => statusOf(await get()) === 200);
});
