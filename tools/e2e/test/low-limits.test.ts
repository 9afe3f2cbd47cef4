// Services that run out of descriptors, one at a time: what they cannot do then they refuse, with a reason and in
// time. None ends, and each does its work again as soon as it may.
import { readdirSync } from 'node:fs';

import { MeshClient } from '@wrenn/cli/client';
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { askHealth } from '@wrenn/cli/mesh/readiness';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { beforeAll, describe, expect, test } from 'vitest';

import { GuestFiles } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const limitMs = 20_000;
const graceMs = 1500;
const done = 'done';
// What says that something is missing for now; a fault of ours would be INTERNAL.
const typed = [
  'SERVICE_UNAVAILABLE',
  'DATABASE_UNAVAILABLE',
  'AGENT_UNREACHABLE',
  'VMM_START_FAILED',
  'DEADLINE_EXCEEDED',
  'CANCELLED',
];
let guest: Guest;
let files: GuestFiles;
beforeAll(async () => {
  guest = await mesh.now.create();
  files = new GuestFiles(mesh.now, guest);
  await files.writeText('/tmp/file', 'hello');
});

async function outcomeOf(call: Promise<unknown>): Promise<string> {
  const startMs = Date.now();
  const outcome = await call.then(
    () => done,
    (error: unknown) => (error instanceof WrennError ? error.reason : String(error)),
  );
  expect(Date.now() - startMs, outcome).toBeLessThan(limitMs + graceMs);
  return outcome;
}

// As by clients that come anew: each with connections of its own.
async function asStrangers(count: number, call: (client: MeshClient) => Promise<unknown>): Promise<string[]> {
  const { gateway, gatewayBulk } = mesh.now.mesh.addresses;
  const one = async () => {
    using client = new MeshClient(gateway, gatewayBulk);
    return await outcomeOf(call(client));
  };
  return Promise.all(Array.from({ length: count }, one));
}

const createAndDestroy = async (client: MeshClient) => {
  const { sandbox } = await client.sandboxes.create({ template: 'minimal' }, inMs(limitMs));
  await client.sandboxes.destroy({ sandboxId: sandbox?.id ?? '' }, inMs(limitMs));
};
const exec = (client: MeshClient) =>
  client.processes.exec({ sandboxId: guest.id, process: { command: 'true' } }, inMs(limitMs));
const read = async (client: MeshClient) => {
  for await (const _part of client.bytes.read({ sandboxId: guest.id, path: '/tmp/file' }, inMs(limitMs))) continue;
};

const page = async () => {
  const answer = await fetch(`http://${mesh.now.mesh.addresses.edgeProxy}/healthz`, {
    signal: AbortSignal.timeout(limitMs),
  });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
};

describe('without a free descriptor', () => {
  const names = ['gateway', 'gateway-bulk', 'scheduler', 'network', 'snapshot-store', 'vm-runtime'] as const;

  test.each(names satisfies readonly ServiceName[])('%s refuses what it cannot do, and goes on', async (name) => {
    const service = mesh.now.mesh.service(name);
    const { pid } = service.running!;
    {
      await using _limit = await takeDescriptors(pid);
      const outcomes = [
        ...(await asStrangers(5, exec)),
        ...(await asStrangers(5, read)),
        ...(await asStrangers(1, createAndDestroy)),
      ];
      for (const outcome of outcomes) expect([done, ...typed]).toContain(outcome);
    }
    await eventually('it serves', async () => (await askHealth(service.plan)).isServing, 30_000);
    expect(await asStrangers(3, exec)).toEqual([done, done, done]);
    expect(await asStrangers(3, read)).toEqual([done, done, done]);
    expect([service.running?.pid, service.restartCount]).toEqual([pid, 0]);
  });

  test('edge-proxy answers those who have a connection, and the others once it has one for them', async () => {
    const service = mesh.now.mesh.service('edge-proxy');
    const { pid } = service.running!;
    {
      await using _limit = await takeDescriptors(pid);
      await Promise.allSettled(Array.from({ length: 5 }, page));
    }
    await eventually('it answers', () => page().then(() => true), 30_000);
    expect([service.running?.pid, service.restartCount]).toEqual([pid, 0]);
  });
});

test('sandboxes are made again after all that', async () => {
  const fresh = await mesh.now.create();
  expect(await fresh.sh('echo made')).toBe('made');
  await Promise.all([fresh.destroy(), guest.destroy()]);
});

// All that it has it keeps. The end of the scope takes the limit away.
async function takeDescriptors(pid: number): Promise<AsyncDisposable> {
  const before = await runProgram('prlimit', [
    '--pid',
    String(pid),
    '--nofile',
    '--raw',
    '--noheadings',
    '--output=SOFT,HARD',
  ]);
  const [soft = '', hard = ''] = before.trim().split(/\s+/);
  const set = async (count: string) => {
    await runProgram('prlimit', ['--pid', String(pid), `--nofile=${count}:${hard}`]);
  };
  // Numbers are given from the lowest: what is open below the limit leaves none.
  const held = readdirSync(`/proc/${pid}/fd`).map(Number);
  let limit = 0;
  while (held.includes(limit)) limit += 1;
  await set(String(limit));
  return { [Symbol.asyncDispose]: () => set(soft) };
}

endsWithoutLeaks(mesh);
