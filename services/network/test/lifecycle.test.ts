import { readdir, stat } from 'node:fs/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { RunningService, clear, remainsOf, startService } from './service.ts';

const range = { first: 20_000, last: 20_005 };
const soon = () => inMs(5000);

beforeAll(() => clear(range)); // A run that was killed may have left some.

afterAll(async () => {
  const leaked = await remainsOf(range);
  await clear(range);
  expect(leaked).toEqual([]);
});

test('a leased slot is really there: addresses, routes, TAP owner, queue length, neighbour, no IPv6', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path });
  const { slot } = await service.client.leaseSlot({ owner: newSandboxId() }, soon());
  if (!slot) throw new Error('no slot in the answer');
  const { index, namespace } = slot;
  expect(slot).toMatchObject({
    namespace: `wrenn-ns-${index}`,
    tap: 'tap0',
    guestMac: '02:fc:00:00:00:05',
    vmmUid: 200_000 + index,
  });
  const ip = async (...args: string[]) => JSON.parse(await runProgram('ip', ['-json', '-details', ...args]));
  const host = `10.12.${(2 * index) >> 8}.${(2 * index) & 255}`;
  const inner = `10.12.${(2 * index) >> 8}.${(2 * index + 1) & 255}`;
  expect(await ip('addr', 'show', 'dev', `wrenn-v-${index}`)).toMatchObject([
    { operstate: 'UP', addr_info: expect.arrayContaining([expect.objectContaining({ local: host, prefixlen: 31 })]) },
  ]);
  expect(await ip('route', 'get', slot.guestAddress)).toMatchObject([{ gateway: inner, dev: `wrenn-v-${index}` }]);
  const [eth0] = await ip('-netns', namespace, 'addr', 'show', 'dev', 'eth0');
  expect(eth0.addr_info).toMatchObject([{ family: 'inet', local: inner, prefixlen: 31 }]);
  const [tap0] = await ip('-netns', namespace, 'addr', 'show', 'dev', 'tap0');
  expect(tap0).toMatchObject({ txqlen: 5000, address: '02:fc:00:00:00:06', flags: expect.arrayContaining(['UP']) });
  expect(tap0.addr_info).toMatchObject([{ family: 'inet', local: '169.254.0.22', prefixlen: 30 }]);
  expect(await runProgram('ip', ['-netns', namespace, 'tuntap', 'show'])).toContain(
    `user ${slot.vmmUid} group ${slot.vmmUid}`,
  );
  expect(await ip('-netns', namespace, 'neigh', 'show', 'dev', 'tap0')).toMatchObject([
    { dst: '169.254.0.21', lladdr: slot.guestMac, state: ['PERMANENT'] },
  ]);
  const settings = ['net.ipv4.ip_forward', 'net.ipv6.conf.all.disable_ipv6', 'net.ipv6.conf.tap0.disable_ipv6'];
  expect(await runProgram('nsenter', [`--net=/run/netns/${namespace}`, 'sysctl', '-n', ...settings])).toBe('1\n1\n1\n');
});

test('only root can connect to its socket', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path });
  expect((await stat(service.socket)).mode & 0o777).toBe(0o600);
});

test('one owner has one slot, however many calls ask for it at once', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path });
  const owner = newSandboxId();
  const answers = await Promise.all(Array.from({ length: 5 }, () => service.client.leaseSlot({ owner }, soon())));
  expect(new Set(answers.map(({ slot }) => slot?.index)).size).toBe(1);
  const { leases, capacity } = await service.client.listSlots({}, soon());
  expect(leases).toMatchObject([{ owner, slot: { index: answers[0]?.slot?.index } }]);
  expect(capacity).toBe(6);
});

test('refuses an owner that is no sandbox id', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path });
  const refused = { reason: 'INVALID_FIELD', meta: { field: 'owner' } };
  await expect(service.client.leaseSlot({ owner: 'cl-1; reboot' }, soon())).rejects.toMatchObject(refused);
  await expect(service.client.releaseSlot({ owner: '' }, soon())).rejects.toMatchObject(refused);
});

test('asked for ten slots more than it has, it refuses exactly ten before the last of the others is built, and serves on', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path });
  const order: string[] = [];
  const lease = async () => {
    const call = service.client.leaseSlot({ owner: newSandboxId() }, soon());
    await call.then(
      () => order.push('leased'),
      () => order.push('refused'),
    );
    return call;
  };
  const outcomes = await Promise.allSettled(Array.from({ length: 16 }, lease));
  expect(order.lastIndexOf('refused')).toBeLessThan(order.lastIndexOf('leased'));
  const refusals = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
  expect(refusals).toHaveLength(10);
  for (const refusal of refusals) {
    expect(refusal).toMatchObject({ reason: 'NO_SLOT_LEFT', message: expect.stringContaining('20000 to 20005') });
  }
  const { leases } = await service.client.listSlots({}, soon());
  expect(new Set(leases.map(({ slot }) => slot?.index)).size).toBe(6);
  await service.client.releaseSlot({ owner: leases[0]?.owner ?? '' }, soon());
  await service.client.leaseSlot({ owner: newSandboxId() }, soon());
  await Promise.all(
    (await service.client.listSlots({}, soon())).leases.map(({ owner }) =>
      service.client.releaseSlot({ owner }, soon()),
    ),
  );
});

test('a released slot is gone when the answer comes, and a second release is a success', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path, poolSize: 0 });
  const owner = newSandboxId();
  const { slot } = await service.client.leaseSlot({ owner }, soon());
  expect(await remainsOf(range)).toEqual(expect.arrayContaining([slot?.namespace, `wrenn-v-${slot?.index}`]));
  await service.client.releaseSlot({ owner }, soon());
  expect(await remainsOf(range)).toEqual(['table inet wrenn_20000']);
  await service.client.releaseSlot({ owner }, soon());
});

test('a stop removes the slots nobody holds; leased ones stay as they are, and the next start adopts them', async () => {
  await using dir = await tempDir();
  const owner = newSandboxId();
  const before = await startService({ range, dir: dir.path });
  const { slot } = await before.client.leaseSlot({ owner }, soon());
  await eventually('the pool is full', async () => (await before.client.listSlots({}, soon())).readyCount === 2);
  expect(await before.end()).toBe(0);
  const namespace = `/run/netns/${slot?.namespace}`;
  const { ino } = await stat(namespace);
  const named = (await remainsOf(range)).filter((name) => name.startsWith('wrenn-'));
  expect(named).toEqual([slot?.namespace, `wrenn-v-${slot?.index}`]);
  expect(await remainsOf(range)).toContain('table inet wrenn_20000');
  await using after = await startService({ range, dir: dir.path });
  expect((await after.client.leaseSlot({ owner }, soon())).slot).toEqual(slot);
  expect((await stat(namespace)).ino).toBe(ino);
  await after.client.releaseSlot({ owner }, soon());
});

test('a stop in the middle of building leaves nothing', async () => {
  await using dir = await tempDir();
  await using service = new RunningService({ range, dir: dir.path, poolSize: 6 });
  await service.serving();
  await eventually('a slot is being built', async () => (await readdir('/run/netns')).includes('wrenn-ns-20001'));
  expect(await service.end()).toBe(0);
  expect(await remainsOf(range)).toEqual([]);
});
