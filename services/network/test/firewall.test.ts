// Real packets through the real TAP. Each destination that must be closed has a server behind it that
// answers everybody else, so that a rule that does nothing is seen.
import { once } from 'node:events';
import { createServer } from 'node:net';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import type { Slot } from '@wrenn/proto/wrenn/network/v1/network';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type RunningService, clear, remainsOf, startService } from './service.ts';
import { StandIn, dialFromHost, port, startGuest, startInternet } from './stand-ins.ts';

const range = { first: 20_032, last: 20_035 };
const otherRange = { first: 20_040, last: 20_041 };
const uplink = { id: range.last, host: '192.31.196.2', server: '192.31.196.3' };
const metadata = '169.254.169.254';
const closed = [metadata, '10.99.0.1', '172.31.255.1', '192.168.77.1', '100.64.0.1', '198.18.0.1'];

const scope = new AsyncDisposableStack();
let seenByHost: string[] = [];
let slots: Slot[] = [];
let [a, b, stranger, internet] = [] as unknown as StandIn[];
let atInternet: { text: string };

beforeAll(async () => {
  for (const used of [range, otherRange]) await clear(used); // A run that was killed may have left some.
  const host = createServer((socket) => {
    seenByHost.push(`${socket.remoteAddress}`);
    socket.on('error', () => undefined);
    socket.end('the host');
  });
  host.listen(port, '0.0.0.0');
  await once(host, 'listening');
  scope.defer(() => void host.close());
  const lease = async (service: RunningService) => {
    const owner = newSandboxId();
    const { slot } = await service.client.leaseSlot({ owner }, inMs(5000));
    if (!slot) throw new Error('no slot in the answer');
    scope.defer(async () => void (await service.client.releaseSlot({ owner }, inMs(5000))));
    const guest = scope.use(await startGuest(slot));
    await guest.serve();
    slots.push(slot);
    return guest;
  };
  const serviceOf = async (of: typeof range) => {
    const dir = scope.use(await tempDir());
    return scope.use(await startService({ range: of, dir: dir.path }));
  };
  const service = await serviceOf(range);
  a = await lease(service);
  b = await lease(service);
  stranger = await lease(await serviceOf(otherRange));
  internet = scope.use(await startInternet(uplink, closed));
  atInternet = await internet.serve();
});

afterAll(async () => {
  await scope.disposeAsync();
  const leaked = [...(await remainsOf(range)), ...(await remainsOf(otherRange))];
  await clear(range);
  await clear(otherRange);
  expect(leaked).toEqual([]);
});

const all = (hosts: readonly string[], outcome: string) => Object.fromEntries(hosts.map((host) => [host, outcome]));
const addressOf = (slot: Slot | undefined, end: 0 | 1) => {
  const offset = 2 * (slot?.index ?? 0) + end;
  return `10.12.${offset >> 8}.${offset & 255}`;
};

test('the host reaches the guest by its 10.11 address, and the guest sees the host of its slot', async () => {
  expect(await dialFromHost(...slots.map((slot) => slot.guestAddress))).toEqual(
    Object.fromEntries(slots.map((slot) => [slot.guestAddress, `answered ${addressOf(slot, 0)}`])),
  );
});

test('a guest reaches the internet, under the address of the host', async () => {
  expect(await a?.dial(uplink.server)).toEqual({ [uplink.server]: `answered ${uplink.host}` });
});

test('a guest reaches no metadata service and no private or reserved network', async () => {
  expect(await dialFromHost(...closed)).toEqual(all(closed, `answered ${uplink.host}`));
  expect(await a?.dial(...closed)).toEqual(all(closed, 'dropped'));
});

test('a guest reaches nothing of the host, by any address the host has', async () => {
  const addresses = [addressOf(slots[0], 0), addressOf(slots[1], 0), uplink.host];
  expect(await dialFromHost(...addresses)).toEqual(all(addresses, 'answered the host'));
  seenByHost = [];
  const tried = [...addresses, addressOf(slots[0], 1), '169.254.0.22'];
  const inSlot = new StandIn(slots[0]?.namespace ?? '');
  scope.defer(() => inSlot.endPrograms());
  const inSlotOutput = await inSlot.serve();
  await a?.send('to-the-slot', '169.254.0.22', '169.254.0.21');
  expect(await a?.dial(...tried)).toEqual(all(tried, 'dropped'));
  expect([seenByHost, inSlotOutput.text]).toEqual([[], 'serving\n']);
});

test('a guest reaches no other guest, not even of another mesh on this host', async () => {
  const others = [slots[1], slots[2]].flatMap((slot) => [slot?.guestAddress ?? '', addressOf(slot, 1)]);
  expect(await a?.dial(...others)).toEqual(all(others, 'dropped'));
});

test('a guest cannot send under an address or a MAC that is not its own', async () => {
  const ip = (...args: string[]) => runProgram('ip', ['-netns', b?.namespace ?? '', ...args]);
  await ip('addr', 'add', '192.31.196.99/32', 'dev', 'lo');
  await b?.send('forged-address', uplink.server, '192.31.196.99');
  await ip('link', 'set', 'eth0', 'address', '02:fc:00:00:00:99');
  await b?.send('forged-mac', uplink.server, '169.254.0.21');
  await ip('link', 'set', 'eth0', 'address', '02:fc:00:00:00:05');
  await b?.send('genuine', uplink.server, '169.254.0.21');
  await eventually('the genuine datagram', () => atInternet.text.includes('datagram genuine'));
  expect(atInternet.text).not.toContain('forged');
});

test('nobody beyond the host reaches a guest', async () => {
  const addresses = slots.map((slot) => slot.guestAddress);
  expect(await internet?.dial(...addresses)).toEqual(all(addresses, 'dropped'));
});

test('nothing in the namespace itself can talk: a VMM that was taken over gains no network', async () => {
  const vmm = new StandIn(slots[0]?.namespace ?? '');
  const tried = [uplink.server, addressOf(slots[0], 0), slots[1]?.guestAddress ?? '', '169.254.0.21'];
  expect(Object.values(await vmm.dial(...tried)).filter((outcome) => outcome.startsWith('answered'))).toEqual([]);
  await vmm.send('from-the-vmm', uplink.server, addressOf(slots[0], 1)).catch(() => 'refused');
  await a?.send('from-the-guest', uplink.server, '169.254.0.21');
  await eventually('the datagram of the guest', () => atInternet.text.includes('datagram from-the-guest'));
  expect(atInternet.text).not.toContain('from-the-vmm');
});

test('the host keeps its guard where the rules of a slot are gone', async () => {
  const inside = [`--net=/run/netns/${slots[1]?.namespace}`, 'nft', '-f', '-'];
  await runProgram('nsenter', inside, { input: 'insert rule inet wrenn forward accept\n' });
  expect(await b?.dial('10.99.0.1')).toEqual({ '10.99.0.1': `answered ${uplink.host}` });
  seenByHost = [];
  const tried = [addressOf(slots[1], 0), uplink.host, ...[slots[0], slots[2]].map((slot) => slot?.guestAddress ?? '')];
  expect(await b?.dial(...tried)).toEqual(all(tried, 'dropped'));
  expect(seenByHost).toEqual([]);
  expect(await stranger?.dial(uplink.server)).toEqual({ [uplink.server]: `answered ${uplink.host}` });
});

test('a slot keeps its guard where the rules of the host are gone', async () => {
  await runProgram('nft', ['delete', 'table', 'inet', `wrenn_${range.first}`]);
  const toGuest = slots[0]?.guestAddress ?? '';
  expect(await internet?.dial(toGuest)).toEqual({ [toGuest]: 'dropped' });
  expect(await dialFromHost(toGuest)).toEqual({ [toGuest]: `answered ${addressOf(slots[0], 0)}` });
  const tried = [addressOf(slots[0], 0), slots[1]?.guestAddress ?? ''];
  expect(await a?.dial(...tried)).toEqual(all(tried, 'dropped'));
});
