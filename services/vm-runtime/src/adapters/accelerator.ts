// Which accelerator really boots a guest here. A /dev/kvm that opens may still not run a stock kernel, so
// the answer comes from booting one, within a time limit, and is kept until something it rests on changes.
import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { writeDurably } from '@wrenn/kit/durable-file';
import type { Log } from '@wrenn/kit/log';
import { runProgram } from '@wrenn/kit/run-program';

import { type Accelerator, type GuestFiles, type QemuPlatform, probeArgs, qemuProgram } from './qemu-args.ts';
import { unprivileged } from './unprivileged.ts';

// How the question is put; tests put it otherwise.
export interface Probe {
  readonly device: string;
  readonly limitMs: number;
}

const kvmProbe: Probe = { device: '/dev/kvm', limitMs: 8000 };
const nobody = 65_534;
const probeAnswer = 'WRENN_PROBE_OK';

export async function qemuVersion(): Promise<string> {
  const text = await runProgram(qemuProgram, ['--version']);
  return /version (\S+)/.exec(text)?.[1] ?? 'unknown';
}

// The rate of the host's time stamp counter, as the agent binary measures it.
export async function measureTscKhz(agentBinary: string): Promise<number> {
  return Number((await runProgram(agentBinary, ['tsc-khz'])).trim());
}

export async function chooseAccelerator(
  files: GuestFiles,
  tscKhz: number,
  dataDir: string,
  log: Log,
  probe = kvmProbe,
): Promise<Accelerator> {
  const file = join(dataDir, 'accelerator.json');
  const basis = await basisOf(files);
  const known = await readKnown(file, basis);
  if (known) return known;
  const accelerator = (await bootsUnderKvm({ ...files, accelerator: 'kvm', tscKhz }, log, probe)) ? 'kvm' : 'tcg';
  await mkdir(dataDir, { recursive: true });
  await writeDurably(file, JSON.stringify({ basis, accelerator }));
  log.info({ accelerator }, 'accelerator probed');
  return accelerator;
}

// One digest of all that the answer rests on: kernel, initramfs, QEMU and this boot of the host.
async function basisOf(files: GuestFiles): Promise<string> {
  const hash = createHash('sha256');
  for (const path of [files.kernel, files.initramfs, '/proc/sys/kernel/random/boot_id'])
    hash.update(await readFile(path));
  return hash.update(await qemuVersion()).digest('hex');
}

async function readKnown(file: string, basis: string): Promise<Accelerator | undefined> {
  try {
    const known = JSON.parse(await readFile(file, 'utf8')) as { basis?: unknown; accelerator?: unknown };
    if (known.basis !== basis) return undefined;
    return known.accelerator === 'kvm' || known.accelerator === 'tcg' ? known.accelerator : undefined;
  } catch {
    // Absent or damaged: a cache may be made anew.
    return undefined;
  }
}

async function bootsUnderKvm(platform: QemuPlatform, log: Log, { device, limitMs }: Probe): Promise<boolean> {
  try {
    await access(device, constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  // As unprivileged as a real VMM: a device that only root may open does not count.
  const [program, ...args] = [...unprivileged(nobody), qemuProgram, ...probeArgs(platform)] as [string, ...string[]];
  const child = spawn(program, args, { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const hasAnswered = new Promise<boolean>((resolve) => {
    const listen = (text: Buffer) => {
      said = (said + text.toString('latin1')).slice(-4000);
      if (said.includes(probeAnswer)) resolve(true);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('close', () => resolve(said.includes(probeAnswer)));
    child.once('error', () => resolve(false));
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  const answer = await hasAnswered;
  clearTimeout(timer);
  child.kill('SIGKILL');
  if (!answer) log.warn({ said: said.slice(-500) }, '/dev/kvm does not boot the guest kernel; using TCG');
  return answer;
}
