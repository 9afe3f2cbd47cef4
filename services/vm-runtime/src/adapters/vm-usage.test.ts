import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { newSandboxId } from '@wrenn/kit/ids';
import { identifyProcess } from '@wrenn/kit/process-identity';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { Cgroups } from './cgroups.ts';
import { VmUsage, trafficOf } from './vm-usage.ts';

const devices = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  tap0: 12345      9    0    0    0     0          0         0   678      8    0    0    0     0       0          0
`;

test('traffic is that of the TAP alone, and none where there is no TAP', () => {
  expect(trafficOf(devices)).toEqual({ rx: 12_345, tx: 678 });
  expect(trafficOf(devices.replace('tap0', 'eth0'))).toEqual({ rx: 0, tx: 0 });
});

test('without cgroups a process tells what it uses itself', async () => {
  const self = identifyProcess(process.pid)!;
  const none = { cpuMs: undefined, memoryBytes: undefined };
  const usage = new VmUsage({ groupUsage: async () => none, diskBytes: async () => new Map() });
  const counters = await usage.read(newSandboxId(), { vmm: self, memory: 'boot' });
  expect(counters?.cpuMs).toBeGreaterThan(0);
  expect(counters?.memoryBytes).toBeGreaterThan(10 * 2 ** 20);
  const gone = { ...self, startTicks: self.startTicks - 1 };
  expect(await usage.read(newSandboxId(), { vmm: gone, memory: 'boot' })).toBeUndefined();
});

test('a group tells what it uses in either kind of hierarchy', async () => {
  await using root = await tempDir();
  const write = (path: string, text: string) => {
    mkdirSync(join(root.path, path, '..'), { recursive: true });
    writeFileSync(join(root.path, path), text);
  };
  const cgroups = new Cgroups(root.path);
  expect(await cgroups.usage('vm')).toEqual({ cpuMs: undefined, memoryBytes: undefined });
  write('cpuacct/vm/cpuacct.usage', '2500000\n');
  write('memory/vm/memory.usage_in_bytes', '4096\n');
  expect(await cgroups.usage('vm')).toEqual({ cpuMs: 2.5, memoryBytes: 4096 });
  write('new/cpu.stat', 'usage_usec 1500\nuser_usec 1000\n');
  write('new/memory.current', '8192\n');
  expect(await cgroups.usage('new')).toEqual({ cpuMs: 1.5, memoryBytes: 8192 });
});
