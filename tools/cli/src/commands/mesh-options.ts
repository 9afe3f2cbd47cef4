// The options by which `up`, `down`, `doctor` and `demo` name a mesh on this machine.
import type { Command } from 'commander';

import { logLevels } from '@wrenn/kit/log';

import { UsageError } from '../exit-codes.ts';
import {
  type MeshOptions,
  defaultImagesDir,
  defaultPortBase,
  keepsTraces,
  portsFrom,
  ramDirFor,
} from '../mesh/options.ts';
import { parseCount } from '../output/units.ts';
import type { CommandContext } from './context.ts';

export interface MeshFlags {
  readonly runDir?: string;
  readonly dataDir?: string;
  readonly firstSlot?: string;
  readonly lastSlot?: string;
  readonly poolSize?: string;
  readonly portBase?: string;
  readonly logLevel?: string;
}

const lastUsableSlot = 32_767;

export function addMeshFlags(command: Command): Command {
  return command
    .option('--run-dir <dir>', 'sockets, state and logs (default: WRENN_RUN_DIR, else /run/wrenn)')
    .option('--data-dir <dir>', 'images, disks and the database (default: WRENN_DATA_DIR, else /var/lib/wrenn)')
    .option('--first-slot <n>', 'first network slot (default: 1)')
    .option('--last-slot <n>', 'last network slot (default: 1024)')
    .option('--pool-size <n>', 'network slots to build ahead (default: 4)')
    .option('--port-base <port>', `gateway's port; the others follow it (default: ${defaultPortBase})`)
    .option('--log-level <level>', `how much the services log: ${logLevels.join(', ')} (default: info)`);
}

export function meshOptionsOf(flags: MeshFlags, { config, env }: Pick<CommandContext, 'config' | 'env'>): MeshOptions {
  const runDir = absolute(flags.runDir ?? config.runDir, '--run-dir');
  const firstSlot = parseCount(flags.firstSlot ?? '1', '--first-slot', 1, lastUsableSlot);
  const lastSlot = parseCount(
    flags.lastSlot ?? String(Math.max(1024, firstSlot)),
    '--last-slot',
    firstSlot,
    lastUsableSlot,
  );
  const logLevel = logLevels.find((level) => level === (flags.logLevel ?? 'info'));
  if (!logLevel) throw new UsageError(`--log-level must be one of ${logLevels.join(', ')}`);
  return {
    runDir,
    dataDir: absolute(flags.dataDir ?? config.dataDir, '--data-dir'),
    ramDir: ramDirFor(runDir),
    imagesDir: defaultImagesDir,
    firstSlot,
    lastSlot,
    poolSize: parseCount(flags.poolSize ?? '4', '--pool-size', 1, 256),
    ports: portsFrom(parseCount(flags.portBase ?? String(defaultPortBase), '--port-base', 1024, 65_000)),
    logLevel,
    databaseUrl: config.databaseUrl,
    keepsTraces: keepsTraces(env),
  };
}

function absolute(path: string, option: string): string {
  if (!path.startsWith('/')) throw new UsageError(`${option} must be an absolute path, not "${path}"`);
  return path;
}
