// One collector per kind of thing that a sandbox or a service may leave behind.
import { access, readFile, readdir, realpath } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';

import { listProcesses, ownAncestry } from '../proc.ts';
import { type MeshScope, isOwnName, isOwnPath, isOwnSlot, slotOfAddress } from './scope.ts';

export type Collector = (scope: MeshScope) => Promise<string[]>;

export const collectors: Readonly<Record<string, Collector>> = {
  process: async (scope) => {
    const ours = ownAncestry();
    return listProcesses()
      .filter(({ pid, args }) => !ours.has(pid) && args.some((arg) => mentionsOwnPath(scope, arg)))
      .map(({ pid, startTicks, args }) => `${pid}@${startTicks} ${args.join(' ').slice(0, 160)}`);
  },

  'network namespace': async (scope) => {
    const names = await entriesOf('/run/netns');
    return names.filter((name) => name.startsWith('wrenn') && isOwnName(scope, name));
  },

  'network link': async (scope) => {
    const links = JSON.parse((await runProgram('ip', ['-json', 'address'])) || '[]') as IpLink[];
    return links
      .filter(({ ifname, addr_info: addresses }) => {
        const slots = addresses.flatMap(({ local }) => slotOfAddress(local ?? '') ?? []);
        if (slots.length > 0) return slots.some((slot) => isOwnSlot(scope, slot));
        return ifname.startsWith('wrenn') && isOwnName(scope, ifname);
      })
      .map(({ ifname }) => ifname);
  },

  route: async (scope) => {
    const routes = JSON.parse(
      (await runProgram('ip', ['-json', 'route', 'show', 'table', 'all'])) || '[]',
    ) as IpRoute[];
    return routes
      .filter(({ dst }) => {
        const slot = slotOfAddress(dst);
        return slot !== undefined && isOwnSlot(scope, slot);
      })
      .map(({ dst, dev, type }) => `${type ?? ''} ${dst} dev ${dev ?? '?'}`.trim());
  },

  'nft table': async (scope) => {
    const { nftables } = JSON.parse(await runProgram('nft', ['--json', 'list', 'tables'])) as NftList;
    return nftables
      .flatMap(({ table }) => (table ? [`${table.family} ${table.name}`] : []))
      .filter((name) => / wrenn/.test(name) && isOwnName(scope, name));
  },

  mount: async (scope) => {
    const table = await readFile('/proc/self/mountinfo', 'utf8');
    const points = table.split('\n').flatMap((line) => line.split(' ')[4] ?? []);
    const netns = '/run/netns/';
    return points.filter((point) =>
      point.startsWith(`${netns}wrenn`) ? isOwnName(scope, point) : isOwnPath(scope, point),
    );
  },

  'loop device': async (scope) => {
    const devices = (await entriesOf('/sys/block')).filter((name) => name.startsWith('loop'));
    const used = await Promise.all(
      devices.map(async (name) => [name, await textOf(`/sys/block/${name}/loop/backing_file`)] as const),
    );
    return used.filter(([, file]) => file && isOwnPath(scope, file.trim())).map(([name, file]) => `${name} ${file}`);
  },

  // VMMs' groups bear the name of their mesh's RAM directory.
  cgroup: async ({ ramDir }) => {
    const groups = await cgroupsUnder('/sys/fs/cgroup', 4);
    return groups.filter((dir) => basename(dir).startsWith(`${basename(ramDir)}-cl-`));
  },

  'unix socket': async (scope) => {
    const table = await readFile('/proc/net/unix', 'utf8');
    const paths = table.split('\n').flatMap((line) => line.split(' ').slice(7).join(' ').trim() || []);
    return [...new Set(paths.filter((path) => isOwnPath(scope, path)))];
  },

  'guest memory': (scope) => filesUnder(scope.ramDir),

  'run file': async (scope) => (await filesUnder(scope.runDir)).filter((path) => !serviceFiles.test(path)),

  // Images and the database are what a data directory is for; disks belong to sandboxes.
  disk: async (scope) => (await filesUnder(scope.dataDir)).filter((path) => /(^|\/)disks?\//.test(path)),
};

// What services keep in the run directory for themselves, whatever sandboxes there are or were.
const serviceFiles = /^(logs|network|vm-runtime\/boot)\//;

interface IpLink {
  readonly ifname: string;
  readonly addr_info: readonly { readonly local?: string }[];
}
interface IpRoute {
  readonly dst: string;
  readonly dev?: string;
  readonly type?: string;
}
interface NftList {
  readonly nftables: readonly { readonly table?: { readonly family: string; readonly name: string } }[];
}

// Paths also hide inside options: `--mesh=/run/wrenn`, `unix:/run/wrenn/…`, `file=/var/lib/wrenn/…,if=none`.
function mentionsOwnPath(scope: MeshScope, arg: string): boolean {
  return arg.split(/[=:,\s]/).some((part) => part.startsWith('/') && isOwnPath(scope, part));
}

async function filesUnder(dir: string): Promise<string[]> {
  if (!(await exists(dir))) return [];
  const root = await realpath(dir);
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

async function cgroupsUnder(dir: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const found: string[] = [];
  for (const name of await entriesOf(dir)) {
    const path = join(dir, name);
    if (name.startsWith('wrenn')) found.push(path);
    if (!name.includes('.')) found.push(...(await cgroupsUnder(path, depth - 1)));
  }
  return found;
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

// What is not there, or is no directory, has no entries; what vanishes meanwhile is not left behind.
async function entriesOf(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENXIO'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
