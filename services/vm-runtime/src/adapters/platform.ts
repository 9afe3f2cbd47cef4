// What every new VM of this host is started with: boot files, accelerator, the rate of the time stamp counter.
import type { Log } from '@wrenn/kit/log';

import type { VmmFacts } from '../domain/snapshot.ts';
import { chooseAccelerator, measureTscKhz, qemuVersion } from './accelerator.ts';
import { copyBootFiles } from './boot-files.ts';
import { cpuModelOf, digestOf } from './machine-facts.ts';
import type { GuestFiles, QemuPlatform } from './qemu-args.ts';

export interface PlatformOptions extends GuestFiles {
  readonly vmlinux: string;
  readonly pager: string;
  readonly shim: string;
  readonly agentBinary: string;
  readonly bootDir: string;
  readonly dataDir: string;
}

export interface HostPlatform extends QemuPlatform {
  readonly shim: string;
  readonly facts: VmmFacts;
}

export function findPlatform(options: PlatformOptions, log: Log): Promise<HostPlatform> {
  const finding = find(options, log);
  finding.catch(() => undefined); // Whoever needs it hears of it.
  return finding;
}

async function find(options: PlatformOptions, log: Log): Promise<HostPlatform> {
  const { kernel, vmlinux, initramfs, pager, shim, agentBinary, bootDir, dataDir } = options;
  const packed = await copyBootFiles(bootDir, { kernel, initramfs, pager, shim });
  const tscKhz = await measureTscKhz(agentBinary);
  const accelerator = await chooseAccelerator(packed, tscKhz, dataDir, log);
  // An emulated processor would unpack it for half a second, and leave 34 MB of memory touched.
  const unpacked = accelerator === 'tcg' ? await copyBootFiles(bootDir, { kernel: vmlinux }) : {};
  const facts = {
    vmm: `qemu ${await qemuVersion()}`,
    accelerator,
    cpuModel: await cpuModelOf(accelerator),
    kernel: await digestOf(kernel),
  };
  return { ...packed, ...unpacked, tscKhz, accelerator, facts };
}
