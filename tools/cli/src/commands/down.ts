import { Command } from 'commander';

import { openLog } from '@wrenn/kit/log';
import { messageOf } from '@wrenn/kit/errors';
import { isRunning } from '@wrenn/kit/process-identity';

import { MeshClient } from '../client.ts';
import { type MeshScope, awaitNoLeftovers } from '../leak-check/leak-check.ts';
import { isClaimed } from '../mesh/claim.ts';
import { destroyAll } from '../mesh/destroy-all.ts';
import { Mesh } from '../mesh/mesh.ts';
import type { MeshOptions } from '../mesh/options.ts';
import { endOrphans, isDatabaseOf, isServiceOf } from '../mesh/orphans.ts';
import { type MeshState, readState } from '../mesh/state-file.ts';
import { tidy } from '../mesh/tidy.ts';
import { endProcess, listProcesses } from '../proc.ts';
import { type CommandContext, withExamples } from './context.ts';
import { type MeshFlags, addMeshFlags, meshOptionsOf } from './mesh-options.ts';

const stopLimitMs = 120_000;

export function downCommand(context: CommandContext): Command {
  const command = addMeshFlags(new Command('down'))
    .description('destroy all sandboxes, then stop the services and the database')
    .action((flags: MeshFlags) => down(context, meshOptionsOf(flags, context)));
  return withExamples(command, 'wrenn down', 'wrenn down --run-dir /run/other');
}

export async function down(context: CommandContext, options: MeshOptions): Promise<void> {
  const { runDir } = options;
  const state = await readState(runDir);
  if (!(await isClaimed(runDir))) {
    if (hasRemains(options) || state) await clearRemains(context, options, state);
    else context.tell(`no mesh runs in ${runDir}`);
    return;
  }
  if (!state) throw new Error(`the mesh in ${runDir} is just starting or stopping; try again in a moment`);
  try {
    using client = new MeshClient(state.addresses.gateway);
    await destroyAll(client, (line) => context.tell(line));
  } catch (error) {
    throw new Error(
      `the sandboxes could not be destroyed, so nothing was stopped: ${messageOf(error)}; see \`wrenn doctor\``,
      {
        cause: error,
      },
    );
  }
  context.tell('stopping the services');
  if (isRunning(state.supervisor)) await endProcess(state.supervisor, stopLimitMs);
  await endOrphans(runDir, state.dataDir);
  await confirmNothingIsLeft(context, state);
}

// A supervisor that was killed leaves services, sandboxes or both. Starting the mesh once more is the
// one way that takes all of them over, whatever is still alive; then everything is stopped in order.
async function clearRemains(context: CommandContext, options: MeshOptions, state: MeshState | undefined) {
  context.tell('the supervisor was killed; taking over what it left');
  const { runDir, dataDir, ramDir, firstSlot, lastSlot } = state ?? options;
  const mesh = new Mesh(
    { ...options, runDir, dataDir, ramDir, firstSlot, lastSlot, templates: [] },
    { log: openLog('supervisor', 'silent'), env: context.env, tell: (line) => context.tell(line) },
  );
  await mesh.start();
  try {
    using client = new MeshClient(mesh.addresses.gateway);
    await destroyAll(client, (line) => context.tell(line));
  } finally {
    await mesh.close();
  }
  await confirmNothingIsLeft(context, { runDir, dataDir, ramDir, firstSlot, lastSlot });
}

async function confirmNothingIsLeft(context: CommandContext, scope: MeshScope): Promise<void> {
  const remains = await awaitNoLeftovers(scope, new Map());
  if (remains.length > 0) throw new Error(`stopped, but these are still there:\n${remains.join('\n')}`);
  await tidy(scope);
  context.tell(`stopped; nothing is left but the logs in ${scope.runDir}/logs`);
}

function hasRemains({ runDir, dataDir }: MeshOptions): boolean {
  return listProcesses().some((view) => isServiceOf(runDir, view) || isDatabaseOf(dataDir, view));
}
