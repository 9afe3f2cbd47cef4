// What every new VM of this host is started with: boot files, accelerator, the rate of the time stamp counter.
import { join } from 'node:path';

import type { Log } from '@wrenn/kit/log';

import { chooseAccelerator, measureTscKhz } from './accelerator.ts';
import { copyBootFiles } from './boot-files.ts';
import type { GuestFiles, QemuPlatform } from './qemu-args.ts';

export interface PlatformOptions extends GuestFiles {
  readonly agentBinary: string;
  readonly runDir: string;
  readonly dataDir: string;
}

export function findPlatform(options: PlatformOptions, log: Log): Promise<QemuPlatform> {
  const finding = find(options, log);
  finding.catch(() => undefined); // Whoever needs it hears of it.
  return finding;
}

async function find({ agentBinary, runDir, dataDir, ...files }: PlatformOptions, log: Log): Promise<QemuPlatform> {
  const guest = await copyBootFiles(join(runDir, 'boot'), files);
  const tscKhz = await measureTscKhz(agentBinary);
  return { ...guest, tscKhz, accelerator: await chooseAccelerator(guest, tscKhz, dataDir, log) };
}
