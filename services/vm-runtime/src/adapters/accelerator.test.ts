// The question whether KVM works, put to programs in QEMU's place: what a real one answers is the machine's affair.
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { openLog } from '@wrenn/kit/log';
import { identifyProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { afterEach, expect, test, vi } from 'vitest';

import { chooseAccelerator } from './accelerator.ts';

afterEach(() => vi.unstubAllEnvs());

const log = openLog('test', 'silent');
const boots = 'echo SeaBIOS; echo WRENN_PROBE_OK; exec sleep 600';

// A machine whose QEMU does this when it is to boot something.
async function machine(whenBooting: string, limitMs = 10_000) {
  const dir = await tempDir();
  await chmod(dir.path, 0o755); // It is run as nobody.
  const at = (name: string) => join(dir.path, name);
  await writeFile(at('asked'), '', { mode: 0o666 });
  await chmod(at('asked'), 0o666);
  const program = `#!/bin/sh\n[ "$1" = --version ] && exec echo QEMU emulator version 1.2.3\necho $$ >> ${at('asked')}\n`;
  await writeFile(at('qemu-system-x86_64'), program + whenBooting, { mode: 0o755 });
  for (const name of ['kernel', 'initramfs', 'kvm']) await writeFile(at(name), name);
  vi.stubEnv('PATH', `${dir.path}:${process.env['PATH']}`);
  const files = { kernel: at('kernel'), initramfs: at('initramfs') };
  const device = at('kvm');
  return {
    at,
    choose: (probe = { device, limitMs }) => chooseAccelerator(files, 2_000_000, dir.path, log, probe),
    asked: async () => (await readFile(at('asked'), 'utf8')).split('\n').filter((pid) => pid !== ''),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

test('KVM that boots the kernel is used, and asked again only when kernel or answer have changed', async () => {
  await using host = await machine(boots);
  expect([await host.choose(), await host.choose()]).toEqual(['kvm', 'kvm']);
  expect(await host.asked()).toHaveLength(1);
  await writeFile(host.at('kernel'), 'another one');
  expect(await host.choose()).toBe('kvm');
  await writeFile(host.at('accelerator.json'), '{"basis": "');
  expect(await host.choose()).toBe('kvm');
  expect(await host.asked()).toHaveLength(3);
  for (const pid of await host.asked()) await eventually('it is gone', () => !identifyProcess(Number(pid)));
});

test.each([
  ['fails', 'echo "failed to initialize kvm: Permission denied" >&2; exit 1'],
  ['ends without a word', 'exit 0'],
])('KVM under which a boot %s is not used, nor asked for each start', async (_how, whenBooting) => {
  await using host = await machine(whenBooting);
  expect([await host.choose(), await host.choose()]).toEqual(['tcg', 'tcg']);
  expect(await host.asked()).toHaveLength(1);
});

test('a boot that comes to no end is given up at its limit, and its QEMU with it', async () => {
  await using host = await machine('exec sleep 600', 5000);
  expect(await host.choose()).toBe('tcg');
  const [pid] = await host.asked();
  await eventually('it is gone', () => !identifyProcess(Number(pid)));
});

test('without the device nothing is booted', async () => {
  await using host = await machine(boots);
  expect(await host.choose({ device: host.at('no-such-device'), limitMs: 1000 })).toBe('tcg');
  expect(await host.asked()).toEqual([]);
});
