import { newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { machineArgs, probeArgs } from './qemu-args.ts';

const platform = { kernel: '/k', initramfs: '/i', accelerator: 'tcg' as const, tscKhz: 2_445_400 };
const slot = {
  namespace: 'ns',
  tap: 'tap0',
  guestMac: '02:fc:00:00:00:05',
  guestAddress: '10.11.0.1',
  vmmUid: 200_001,
};
const launch = { sandboxId: newSandboxId(), vcpuCount: 2, memoryBytes: 256 * 2 ** 20, slot, diskPath: '/d,isk' };

test('a path with a comma cannot smuggle an option in', () => {
  const args = machineArgs(platform, launch, { ram: '/ram,share=off', qmp: '/q,server=off' });
  expect(args).toContain('driver=file,node-name=root-file,filename=/d,,isk,cache.no-flush=on');
  expect(args).toContain('memory-backend-file,id=ram,size=268435456,mem-path=/ram,,share=off,share=on');
  expect(args).toContain('unix:/q,,server=off,server=on,wait=off');
});

test('tells the guest its TSC rate and denies the VMM what it does not need', () => {
  const args = machineArgs(platform, launch, { ram: '/r', qmp: '/q' }).join(' ');
  expect(args).toContain('tsc_early_khz=2445400');
  expect(args).toContain('-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny');
  expect(args).toContain(`-name wrenn-${launch.sandboxId}`);
});

const argsOn = (accelerator: 'tcg' | 'kvm') =>
  machineArgs({ ...platform, accelerator }, launch, { ram: '/r', qmp: '/q' }).join(' ');

test('an emulated guest keeps time by the TSC whatever its ticks do; under KVM the kernel judges by itself', () => {
  expect(argsOn('tcg')).toContain(' tsc=reliable ');
  expect(argsOn('kvm')).not.toContain('tsc=reliable');
});

test('what emulation does slowly is kept from emulated guests alone: bytewise copies, random addresses, a fifth level, patched code', () => {
  expect(argsOn('tcg')).toContain('-cpu max,-erms,-fsrm ');
  expect(argsOn('tcg')).toContain(' norandmaps no5lvl noreplace-smp ');
  expect(argsOn('kvm')).toContain('-cpu host ');
  expect(argsOn('kvm')).not.toMatch(/norandmaps|no5lvl|noreplace|erms/);
});

test('the probe asks the agent to say so and end', () => {
  expect(probeArgs({ ...platform, accelerator: 'kvm' }).join(' ')).toMatch(/-accel kvm .* wrenn\.probe -serial stdio$/);
});
