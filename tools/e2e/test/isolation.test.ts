// What a guest can and cannot reach, seen from inside real guests. Each refusal has a counterpart that
// succeeds, so that a broken test cannot pass for a working firewall.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, type Server, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { UndoStack } from '@wrenn/kit/undo-stack';
import { slotOfAddress } from '@wrenn/cli/leak-check/scope';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { probeAsRoot, probeAsVmm } from '../src/jail-probe.ts';
import { ownPlace } from '../src/place.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['minimal', 'debian'] });
const agentPort = 49_983;
let guest: Guest;
let neighbour: Guest;

beforeAll(async () => {
  [guest, neighbour] = await Promise.all([mesh.now.create('debian'), mesh.now.create('minimal')]);
});

// `open`, or why not, as seen by a TCP connection from inside the guest.
async function dialFrom(from: Guest, address: string, port: number, source = ''): Promise<string> {
  const script = `
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2, (sys.argv[3], 0))
    print('open', s.recv(64).decode().strip())
except TimeoutError: print('timeout')
except OSError as e: print('refused', e.errno)`;
  const { out } = await from.exec('python3', ['-c', script, address, String(port), source], { timeoutMs: 15_000 });
  return out.trim();
}

function dialFromHost(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 3000 });
    const end = (isOpen: boolean) => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}

async function listenOn(address: string): Promise<AsyncDisposable & { readonly port: number }> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined); // Whoever only knocks resets the connection.
    socket.end('hello\n');
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, address, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

function hostSideOf(guestAddress: string): string {
  const offset = 2 * (slotOfAddress(guestAddress) ?? 0);
  return `10.12.${offset >> 8}.${offset & 255}`;
}

test('a guest reaches no other guest, though the host reaches both', async () => {
  const address = await neighbour.address();
  expect(await dialFromHost(address, agentPort)).toBe(true);
  expect(await dialFromHost(await guest.address(), agentPort)).toBe(true);
  expect(await dialFrom(guest, address, agentPort)).not.toMatch(/^open/);
});

test('a guest reaches nothing on its host, not even on the link between them', async () => {
  const address = hostSideOf(await guest.address());
  await using listener = await listenOn(address);
  const { port } = listener;
  expect(await dialFromHost(address, port)).toBe(true);
  expect(await dialFrom(guest, address, port)).not.toMatch(/^open/);
});

test('a guest reaches neither the metadata service nor private networks', async () => {
  for (const [address, port] of [
    ['169.254.169.254', 80],
    ['169.254.0.22', 22],
    ['10.0.0.1', 80],
    ['172.17.0.1', 80],
    ['192.168.1.1', 80],
    ['100.64.0.1', 80],
  ] as const) {
    expect(await dialFrom(guest, address, port), address).not.toMatch(/^open/);
  }
});

describe('toward the internet', () => {
  // A namespace of ours plays it, at a public address that only this machine routes there.
  const name = `wrenn-e2e-${ownPlace().firstSlot}`;
  const peer = { namespace: name, address: '11.99.99.99', hostAddress: '11.99.99.98', port: 8080 };
  const undo = new UndoStack();
  afterAll(() => undo.undo());

  beforeAll(async () => {
    undo.push(async () => void (await runProgram('ip', ['netns', 'delete', peer.namespace])));
    const lines = [
      `netns add ${peer.namespace}`,
      `link add ${name} type veth peer name eth0 netns ${peer.namespace}`,
      `addr add ${peer.hostAddress}/31 dev ${name}`,
      `link set ${name} up`,
    ];
    await runProgram('ip', ['-batch', '-'], { input: lines.join('\n') });
    const inner = [
      `addr add ${peer.address}/31 dev eth0`,
      'link set eth0 up',
      // As a neighbour that knows where guests are and would like to reach them.
      `route add 10.11.0.0/16 via ${peer.hostAddress}`,
    ];
    await runProgram('ip', ['-netns', peer.namespace, '-batch', '-'], { input: inner.join('\n') });
    const serve = `
import socket
server = socket.create_server(('${peer.address}', ${peer.port}))
while True:
    client, (who, _) = server.accept()
    client.sendall(('hello ' + who).encode())
    client.close()`;
    const args = ['netns', 'exec', peer.namespace, 'python3', '-c', serve];
    const child = spawn('ip', args, { stdio: 'ignore' });
    undo.push(async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    await eventually('it listens', () => dialFromHost(peer.address, peer.port));
  });

  test('a guest’s connection leaves under the host’s own address', async () => {
    expect(await dialFrom(guest, peer.address, peer.port)).toBe(`open hello ${peer.hostAddress}`);
  });

  test('a guest that lies about its address is not heard', async () => {
    const lie = '169.254.0.50';
    await guest.sh(`ip addr add ${lie}/30 dev eth0`, { user: 'root' });
    expect(await dialFrom(guest, peer.address, peer.port, lie)).not.toMatch(/^open/);
    expect(await dialFrom(guest, peer.address, peer.port)).toMatch(/^open/);
  });

  test('nothing out there reaches into a guest', async () => {
    const address = await guest.address();
    const dial = `
import socket
try:
    socket.create_connection(('${address}', ${agentPort}), 2)
    print('open')
except OSError:
    print('closed')`;
    const args = ['netns', 'exec', peer.namespace, 'python3', '-c', dial];
    expect((await runProgram('ip', args)).trim()).toBe('closed');
    expect(await dialFromHost(address, agentPort)).toBe(true);
  });
});

test('VMMs run as users of their own, without capabilities and with their system calls filtered', async () => {
  const views = [guest.vmm(), neighbour.vmm()];
  const statuses = await Promise.all(views.map((view) => runProgram('cat', [`/proc/${view?.pid}/status`])));
  const field = (text: string, name: string) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(text)?.[1] ?? '';
  const uids = statuses.map((status) => Number(field(status, 'Uid')));
  expect(uids[0]).not.toBe(uids[1]);
  for (const uid of uids) expect(uid).toBeGreaterThan(1000);
  for (const status of statuses) {
    expect(Number.parseInt(field(status, 'CapEff'), 16)).toBe(0);
    expect(Number.parseInt(field(status, 'CapBnd'), 16)).toBe(0);
    expect(field(status, 'NoNewPrivs')).toBe('1');
    expect(field(status, 'Seccomp')).toBe('2');
  }
});

test('a VMM that was taken over reaches nothing of its host or of other VMs, by whatever way', async () => {
  const { runDir, dataDir, ramDir, imagesDir } = mesh.now.mesh.options;
  const [own, other] = [guest, neighbour].map(({ id }) => filesOf(id));
  const vmm = guest.vmm()!;
  const services = (['gateway', 'network', 'vm-runtime'] as const).map(
    (name) => mesh.now.mesh.service(name).running!.pid,
  );
  const hostSide = hostSideOf(await guest.address());
  await using listener = await listenOn(hostSide);
  const files = {
    read: [
      '/etc/shadow',
      other!.disk,
      other!.ram,
      own!.journal,
      join(runDir, 'database-url'),
      join(runDir, 'network/leases.json'),
    ],
    write: ['/etc/passwd', join(imagesDir, 'vmlinuz'), join(runDir, 'mesh.json'), join(runDir, 'logs/gateway.log')],
    list: [runDir, dataDir, ramDir, join(runDir, 'vm-runtime'), join(runDir, 'vm-runtime/vms'), dirname(other!.ram)],
    make_in: [runDir, dataDir, ramDir, dirname(own!.disk), '/etc', '/run'],
    connect: [other!.qmp, join(runDir, 'network.sock'), join(runDir, 'snapshot-store.sock')],
  };
  const outcomes = await probeAsVmm(vmm, {
    ...files,
    tcp: [
      [hostSide, listener.port],
      [await neighbour.address(), agentPort],
      ['127.0.0.1', Number(mesh.now.mesh.addresses.gateway.split(':')[1])],
      ['169.254.169.254', 80],
    ],
    trace: [1, ...services, neighbour.vmm()!.pid],
  });
  // A kernel may not even have the call.
  const isRefused = (outcome: string) => /^(EPERM|EACCES|ENOSYS)$/.test(outcome);
  const isUnreached = (outcome: string) => /^(ETIMEDOUT|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH)$/.test(outcome);
  const succeeded = Object.entries(outcomes).filter(
    ([attempt, outcome]) => !isRefused(outcome) && !(attempt.startsWith('dial') && isUnreached(outcome)),
  );
  expect(succeeded).toEqual([]);
  expect(Object.keys(outcomes).length).toBeGreaterThan(60);
  // All that is there to be had: root has it.
  const ofRoot = await probeAsRoot({ ...files, files_only: true });
  expect(new Set(Object.values(ofRoot))).toEqual(new Set(['done']));
  // And its own is its own.
  expect(await probeAsVmm(vmm, { read: [own!.disk, own!.ram], write: [own!.disk], files_only: true })).toEqual({
    [`read ${own!.disk}`]: 'done',
    [`read ${own!.ram}`]: 'done',
    [`write ${own!.disk}`]: 'done',
  });
});

// Where the host keeps what is one VM's.
function filesOf(id: string) {
  const { runDir, dataDir, ramDir } = mesh.now.mesh.options;
  const vm = join(runDir, 'vm-runtime/vms', id);
  return {
    disk: join(dataDir, 'snapshot-store/disks', id, 'disk.qcow2'),
    ram: join(ramDir, id, 'ram'),
    journal: join(vm, 'vm.json'),
    qmp: join(vm, 'jail/qmp.sock'),
  };
}

endsWithoutLeaks(mesh);
