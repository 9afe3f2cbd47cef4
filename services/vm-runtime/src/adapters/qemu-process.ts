// Starts one QEMU. Its memory files, device state and userfaultfd come as descriptors: its uid may open none of
// them by name. What it preloads is services/pager's shim.
import { spawn } from 'node:child_process';
import type { FileHandle } from 'node:fs/promises';
import { setPriority } from 'node:os';

import { WrennError, messageOf } from '@wrenn/kit/errors';
import { type ProcessIdentity, identifyProcess } from '@wrenn/kit/process-identity';

import type { Launch } from '../domain/vm.ts';
import { OpenFiles } from './open-files.ts';
import { type MachineStart, machineArgs, qemuProgram } from './qemu-args.ts';
import type { HostPlatform } from './platform.ts';
import { guestNiceness, unprivileged } from './unprivileged.ts';
import type { VmPaths } from './vm-paths.ts';

export interface QemuSpawn {
  readonly platform: HostPlatform;
  readonly launch: Launch;
  readonly paths: VmPaths;
  readonly enterCgroup: (pid: number) => void;
}

const firstFd = 3;

export async function spawnQemu({ platform, launch, paths, enterCgroup }: QemuSpawn): Promise<ProcessIdentity> {
  await using files = new OpenFiles();
  try {
    const log = await files.open(paths.log, 'w', 0o600);
    const passed: FileHandle[] = [];
    const pass = async (path: string, flags = 'r') => {
      passed.push(await files.open(path, flags));
      return firstFd + passed.length - 1;
    };
    const ram = launch.restore?.memorySource === 'map' ? paths.ramBase : paths.ram;
    let start: MachineStart = { kind: 'boot' };
    let env: Readonly<Record<string, string>> = {};
    if (launch.restore) {
      start = { kind: 'restore', vmstateFd: await pass(launch.restore.snapshot.vmstatePath) };
      env = { LD_PRELOAD: platform.shim, WRENN_SHIM_RAM: ram, ...(await memoryEnv(launch.restore, paths, pass)) };
    }
    const args = machineArgs(platform, launch, { ram, qmp: paths.qmp }, start);
    const [program, ...rest] = [
      ...['ip', 'netns', 'exec', launch.slot.namespace],
      ...unprivileged(launch.slot.vmmUid),
      // For QEMU alone: the shim takes its settings out of the environment of the first program that loads it.
      ...['env', ...Object.entries(env).map(([name, value]) => `${name}=${value}`)],
      ...[qemuProgram, ...args],
    ] as [string, ...string[]];
    const stdio = ['ignore' as const, log.fd, log.fd, ...passed.map(({ fd }) => fd)];
    // Each program of the chain executes the next in place: the child's pid is QEMU's.
    const child = spawn(program, rest, { detached: true, cwd: '/', stdio, env: {} });
    await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    enterCgroup(child.pid!);
    setPriority(child.pid!, guestNiceness);
    child.unref();
    const process = identifyProcess(child.pid!);
    if (!process) throw new Error('it ended at once');
    return process;
  } catch (error) {
    throw new WrennError('VMM_START_FAILED', `QEMU did not start: ${messageOf(error)}`, { cause: error });
  }
}

type Pass = (path: string, flags?: string) => Promise<number>;

async function memoryEnv({ snapshot, memorySource }: NonNullable<Launch['restore']>, paths: VmPaths, pass: Pass) {
  if (memorySource !== 'map') {
    const userfaultfd = await pass('/dev/userfaultfd', 'r+');
    return { WRENN_SHIM: 'uffd', WRENN_SHIM_UFFD: String(userfaultfd), WRENN_SHIM_SOCKET: paths.pagerSocket };
  }
  const header = await pass(snapshot.headerPath);
  const files: number[] = [];
  for (const { path } of snapshot.memoryFiles) files.push(await pass(path));
  return {
    WRENN_SHIM: 'map',
    WRENN_SHIM_HEADER: String(header),
    WRENN_SHIM_FILES: files.join(','),
    WRENN_SHIM_REPORT: paths.ramAddress,
  };
}
