// One cgroup per VM bounds what its VMM can take from the host: memory, CPU, threads. Works with the
// unified hierarchy and with the old per-controller ones; a controller the host lacks is left out.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Limits {
  readonly memoryBytes: number;
  readonly cpuPercent: number; // 100 is one CPU.
  readonly taskCount: number;
}

type Setting = readonly [file: string, value: string];
interface Hierarchy {
  readonly dir: string;
  readonly settings: (limits: Limits) => Setting[];
}

const cpuPeriodUs = 100_000;
const quotaUs = (limits: Limits) => Math.round((limits.cpuPercent * cpuPeriodUs) / 100);

const unified: Record<string, Hierarchy['settings']> = {
  memory: (limits) => [
    ['memory.max', String(limits.memoryBytes)],
    ['memory.swap.max', '0'],
  ],
  cpu: (limits) => [['cpu.max', `${quotaUs(limits)} ${cpuPeriodUs}`]],
  pids: (limits) => [['pids.max', String(limits.taskCount)]],
};
const separate: Record<string, Hierarchy['settings']> = {
  memory: (limits) => [['memory.limit_in_bytes', String(limits.memoryBytes)]],
  cpu: (limits) => [
    ['cpu.cfs_period_us', String(cpuPeriodUs)],
    ['cpu.cfs_quota_us', String(quotaUs(limits))],
  ],
  pids: (limits) => [['pids.max', String(limits.taskCount)]],
  cpuacct: () => [], // Bounds nothing; it counts.
};

// What the members of a group have used together; undefined where no controller tells.
export interface GroupUsage {
  readonly cpuMs: number | undefined;
  readonly memoryBytes: number | undefined;
}

export class Cgroups {
  readonly #root: string;
  readonly #hierarchies: Hierarchy[];

  constructor(root = '/sys/fs/cgroup') {
    this.#root = root;
    this.#hierarchies = existsSync(`${root}/cgroup.controllers`) ? [unifiedHierarchy(root)] : separateHierarchies(root);
  }

  get isLimiting(): boolean {
    return this.#hierarchies.length > 0;
  }

  // Makes the group. Idempotent.
  create(name: string, limits: Limits): void {
    for (const { dir, settings } of this.#hierarchies) {
      mkdirSync(`${dir}/${name}`, { recursive: true });
      for (const [file, value] of settings(limits)) {
        // Swap accounting may be off in the kernel.
        if (existsSync(`${dir}/${name}/${file}`)) writeFileSync(`${dir}/${name}/${file}`, value);
      }
    }
  }

  enter(name: string, pid: number): void {
    for (const { dir } of this.#hierarchies) writeFileSync(`${dir}/${name}/cgroup.procs`, String(pid));
  }

  async usage(name: string): Promise<GroupUsage> {
    const inGroup = (file: string) => readIfThere(`${this.#root}/${file.replace('*', name)}`);
    const [cpuStat, cpuacct, memory, memoryOld] = await Promise.all([
      inGroup('*/cpu.stat'),
      inGroup('cpuacct/*/cpuacct.usage'),
      inGroup('*/memory.current'),
      inGroup('memory/*/memory.usage_in_bytes'),
    ]);
    const cpuUs = /^usage_usec (\d+)/m.exec(cpuStat ?? '')?.[1];
    return {
      cpuMs: cpuUs === undefined ? (cpuacct && Number(cpuacct) / 1e6) || undefined : Number(cpuUs) / 1000,
      memoryBytes: Number(memory ?? memoryOld) || undefined,
    };
  }

  // Removes a group whose processes are gone; the kernel may take a moment to see it. Idempotent.
  async remove(name: string): Promise<void> {
    for (const { dir } of this.#hierarchies) await removeGroup(`${dir}/${name}`);
  }
}

function unifiedHierarchy(root: string): Hierarchy {
  const granted = readFileSync(`${root}/cgroup.subtree_control`, 'utf8').trim().split(' ');
  const known = Object.entries(unified).filter(([controller]) => granted.includes(controller));
  return { dir: root, settings: (limits) => known.flatMap(([, settings]) => settings(limits)) };
}

function separateHierarchies(root: string): Hierarchy[] {
  return Object.entries(separate)
    .map(([controller, settings]) => ({ dir: `${root}/${controller}`, settings }))
    .filter(({ dir }) => existsSync(`${dir}/cgroup.procs`));
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    // A controller that is not there, or the group's end while it was read.
    if (['ENOENT', 'ENODEV', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

async function removeGroup(dir: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return rmdirSync(dir);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || attempt === 100) throw error;
      await sleep(20);
    }
  }
}
