import { systemClock } from '@wrenn/kit/clock';
import { newSandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { expect, test } from 'vitest';

import { type RunningMachine, type UsageCounters, UsageSampler } from './usage-sampler.ts';

function samplerOf(machines: RunningMachine[], read: (machine: number) => UsageCounters | undefined) {
  const meter = {
    read: async (_id: string, { vmm }: RunningMachine['processes']) => read(vmm.pid),
    diskBytes: async () => new Map(machines.map(({ sandboxId }) => [sandboxId, 42])),
  };
  const log = openLog('test', 'silent');
  return new UsageSampler({ running: () => machines, meter, clock: systemClock, log });
}

const machine = (pid: number, sandboxId = newSandboxId()): RunningMachine => ({
  sandboxId,
  processes: { vmm: { pid, startTicks: 1 }, memory: 'boot' },
});
const counters = (n: number): UsageCounters => ({ cpuMs: n, memoryBytes: 7, receivedBytes: 2 * n, sentBytes: 3 * n });
const points = (sampler: UsageSampler, { sandboxId }: RunningMachine) =>
  sampler.history(sandboxId)?.points('ten minutes', Date.now()) ?? [];

test('a point has what was used since the look before, not since the start', async () => {
  const vm = machine(1);
  let n = 1000;
  const sampler = samplerOf([vm], () => counters(n));
  await sampler.sample();
  expect(points(sampler, vm)).toEqual([]);
  n = 1010;
  await sampler.sample();
  const used = { cpuMs: 10, memoryBytes: 7, diskBytes: 42, receivedBytes: 20, sentBytes: 30 };
  expect(points(sampler, vm)).toMatchObject([used]);
});

test('counters that begin anew, after a pause, count from there', async () => {
  const vm = machine(1);
  const machines = [vm];
  const used: Record<number, number> = { 1: 500, 2: 3 };
  const sampler = samplerOf(machines, (pid) => counters(used[pid] ?? 0));
  await sampler.sample();
  machines.length = 0;
  await sampler.sample();
  machines.push(machine(2, vm.sandboxId));
  await sampler.sample();
  used[2] = 5;
  await sampler.sample();
  const all = points(sampler, vm);
  expect(all.reduce((sum, { cpuMs }) => sum + cpuMs, 0)).toBe(2);
});

test('a VM that cannot be measured costs no other its point', async () => {
  const [bad, good] = [machine(1), machine(2)];
  const sampler = samplerOf([bad, good], (pid) => {
    if (pid === 1) throw new Error('gone');
    return counters(1);
  });
  await sampler.sample();
  await sampler.sample();
  expect(points(sampler, bad)).toEqual([]);
  expect(points(sampler, good)).toHaveLength(1);
});

test('of more sandboxes than it keeps, those that were measured last are kept', async () => {
  const many = Array.from({ length: 2100 }, (_, n) => machine(n));
  const sampler = samplerOf(many, () => counters(1));
  await sampler.sample();
  await sampler.sample();
  const kept = many.filter(({ sandboxId }) => sampler.history(sandboxId));
  expect(kept).toHaveLength(2000);
  expect(kept.at(-1)).toBe(many.at(-1));
});
