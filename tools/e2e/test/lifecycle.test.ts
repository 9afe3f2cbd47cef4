import { timestampMs } from '@bufbuild/protobuf/wkt';
import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { type SandboxEvent, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { describe, expect, test } from 'vitest';

import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const sandboxes = () => mesh.now.client.sandboxes;
const MiB = 2n ** 20n;

describe('Create refuses', () => {
  test.each([
    ['an unknown template', { template: 'no-such-template' }, 'TEMPLATE_NOT_FOUND'],
    ['a name that is none', { template: 'No Such' }, 'INVALID_FIELD'],
    ['no template', { template: '' }, 'INVALID_FIELD'],
    ['too many CPUs', { template: 'minimal', vcpuCount: 33 }, 'INVALID_FIELD'],
    ['too little memory', { template: 'minimal', memoryBytes: 2n * MiB }, 'INVALID_FIELD'],
    ['memory that is no multiple of 2 MiB', { template: 'minimal', memoryBytes: 101n * MiB }, 'INVALID_FIELD'],
    ['a disk smaller than the image', { template: 'minimal', diskBytes: 1n * MiB }, 'INVALID_FIELD'],
    ['a time to live of nothing', { template: 'minimal', ttl: { seconds: 0n, nanos: 0 } }, 'INVALID_FIELD'],
    ['a time to live beyond a day', { template: 'minimal', ttl: durationOfMs(90_000_000) }, 'INVALID_FIELD'],
    ['a bad variable name', { template: 'minimal', env: { '1A': 'x' } }, 'INVALID_FIELD'],
    ['too long a label', { template: 'minimal', metadata: { a: 'x'.repeat(257) } }, 'INVALID_FIELD'],
  ])('%s', async (_what, request, reason) => {
    expect(await reasonOf(sandboxes().create(request, inMs(60_000)))).toBe(reason);
  });
});

test('every rpc says so when it does not know a sandbox', async () => {
  const sandboxId = `cl-${'z'.repeat(25)}`;
  const ttl = durationOfMs(60_000);
  expect(await reasonOf(sandboxes().get({ sandboxId }, inMs(10_000)))).toBe('SANDBOX_NOT_FOUND');
  expect(await reasonOf(sandboxes().destroy({ sandboxId }, inMs(10_000)))).toBe('SANDBOX_NOT_FOUND');
  expect(await reasonOf(sandboxes().ping({ sandboxId }, inMs(10_000)))).toBe('SANDBOX_NOT_FOUND');
  expect(await reasonOf(sandboxes().setTimeout({ sandboxId, ttl }, inMs(10_000)))).toBe('SANDBOX_NOT_FOUND');
});

test('List pages through living sandboxes, newest first, and finds the others by state', async () => {
  const guests = [await mesh.now.create(), await mesh.now.create(), await mesh.now.create()];
  const ids: string[] = [];
  let pageToken = '';
  do {
    const page = await sandboxes().list({ pageSize: 2, pageToken }, inMs(10_000));
    expect(page.sandboxes.length).toBeLessThanOrEqual(2);
    ids.push(...page.sandboxes.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  expect(ids).toEqual(guests.map(({ id }) => id).toReversed());

  await Promise.all(guests.map((guest) => guest.destroy()));
  expect((await sandboxes().list({}, inMs(10_000))).sandboxes).toEqual([]);
  const over = await sandboxes().list({ states: [SandboxState.DESTROYED], pageSize: 1000 }, inMs(10_000));
  expect(over.sandboxes.map(({ id }) => id)).toEqual(expect.arrayContaining(ids));
});

test('WatchEvents tells a sandbox’s whole life in order, and again from any point', async () => {
  const guest = await mesh.now.create();
  await guest.destroy();
  const events = await lifeOf(guest.id, 0n);
  expect(events.map(({ toState }) => toState)).toEqual([
    SandboxState.PENDING,
    SandboxState.STARTING,
    SandboxState.RUNNING,
    SandboxState.DESTROYING,
    SandboxState.DESTROYED,
  ]);
  for (const [i, event] of events.entries()) expect(event.fromState).toBe(events[i - 1]?.toState ?? 0);
  const later = await lifeOf(guest.id, events[2]?.sequence ?? 0n);
  expect(later.map(({ sequence }) => sequence)).toEqual(events.slice(3).map(({ sequence }) => sequence));
});

test('a watcher that starts now sees only what happens from now on', async () => {
  const old = await mesh.now.create();
  const leave = new AbortController();
  const seen: SandboxEvent[] = [];
  const watching = (async () => {
    for await (const { event } of sandboxes().watchEvents({ liveOnly: true }, { signal: leave.signal })) {
      if (event) seen.push(event);
      if (event?.toState === SandboxState.DESTROYED) return;
    }
  })();
  // The stream has no greeting: sandboxes come and go until it is seen to be live.
  await eventually(
    'the watcher is live',
    async () => {
      await (await mesh.now.create()).destroy();
      return seen.length > 0;
    },
    60_000,
  );
  await watching;
  expect(seen.some(({ sandboxId }) => sandboxId === old.id)).toBe(false);
  leave.abort();
  await old.destroy();
});

describe('time to live', () => {
  test('a sandbox is destroyed once its time is over', async () => {
    const guest = await mesh.now.create('minimal', { ttl: durationOfMs(6000) });
    const expiresAtMs = timestampMs((await guest.get()).expiresAt!);
    await eventually('it is destroyed', async () => (await guest.get()).state === SandboxState.DESTROYED, 20_000);
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAtMs);
    expect(guest.vmm()).toBeUndefined();
    const events = await lifeOf(guest.id, 0n);
    expect(events.find(({ toState }) => toState === SandboxState.DESTROYING)?.reason).toBe('TTL_EXPIRED');
  });

  test('SetTimeout moves the end both ways, Ping only away', async () => {
    const guest = await mesh.now.create('minimal', { ttl: durationOfMs(600_000) });
    const sandboxId = guest.id;
    const first = timestampMs((await guest.get()).expiresAt!);
    const shorter = await sandboxes().setTimeout({ sandboxId, ttl: durationOfMs(60_000) }, inMs(10_000));
    expect(timestampMs(shorter.sandbox!.expiresAt!)).toBeLessThan(first);
    const longer = await sandboxes().setTimeout({ sandboxId, ttl: durationOfMs(3_600_000) }, inMs(10_000));
    const end = timestampMs(longer.sandbox!.expiresAt!);
    expect(end).toBeGreaterThan(first);
    const { expiresAt } = await sandboxes().ping({ sandboxId }, inMs(10_000));
    expect(timestampMs(expiresAt!)).toBeGreaterThanOrEqual(end);
    await guest.destroy();
    expect(await reasonOf(sandboxes().ping({ sandboxId }, inMs(10_000)))).toBe('SANDBOX_NOT_RUNNING');
  });
});

test('destroying a sandbox twice at once succeeds twice', async () => {
  const guest = await mesh.now.create();
  await Promise.all([guest.destroy(), guest.destroy()]);
  expect((await guest.get()).state).toBe(SandboxState.DESTROYED);
});

async function lifeOf(sandboxId: string, afterSequence: bigint): Promise<SandboxEvent[]> {
  const events: SandboxEvent[] = [];
  for await (const { event } of sandboxes().watchEvents({ sandboxId, afterSequence }, inMs(20_000))) {
    if (event) events.push(event);
    if (event?.toState === SandboxState.DESTROYED || event?.toState === SandboxState.ERROR) break;
  }
  return events;
}

endsWithoutLeaks(mesh);
