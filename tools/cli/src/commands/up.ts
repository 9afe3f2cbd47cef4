import { Command } from 'commander';
import { openLog } from '@wrenn/kit/log';
import { Shutdown } from '@wrenn/kit/shutdown';

import { isClaimed } from '../mesh/claim.ts';
import { startDetached } from '../mesh/detached.ts';
import { Mesh } from '../mesh/mesh.ts';
import { type MeshOptions, addressesOf, defaultPortBase, defaultRunDir } from '../mesh/options.ts';
import { type MeshState, readState } from '../mesh/state-file.ts';
import { type CommandContext, withExamples } from './context.ts';
import { type MeshFlags, addMeshFlags, meshOptionsOf } from './mesh-options.ts';

interface UpFlags extends MeshFlags {
  readonly foreground?: true;
  readonly json?: true;
}

export function upCommand(context: CommandContext): Command {
  const command = addMeshFlags(new Command('up'))
    .description('start the whole mesh on this machine: database, services, templates')
    .option('--foreground', 'stay, and stop the services on Ctrl-C (sandboxes keep running)')
    .option('--json', 'print the addresses as JSON')
    .action((flags: UpFlags) => up(context, flags));
  return withExamples(
    command,
    'wrenn up',
    'DATABASE_URL=postgres://wrenn:secret@db/wrenn wrenn up      a PostgreSQL of your own',
    'wrenn up --foreground                                       for a service manager',
  );
}

async function up(context: CommandContext, flags: UpFlags): Promise<void> {
  const options = meshOptionsOf(flags, context);
  if (await isClaimed(options.runDir)) {
    const state = await readState(options.runDir);
    context.tell(`the mesh already runs (pid ${state?.supervisor.pid ?? 'unknown'}, ${state?.phase ?? 'starting'})`);
    printAddresses(context, flags, state?.addresses ?? addressesOf(options), options);
    return;
  }
  if (flags.foreground) {
    await runInForeground(context, flags, options);
    return;
  }
  await startDetached(options, context.env, (line) => context.tell(line));
  printAddresses(context, flags, addressesOf(options), options);
}

async function runInForeground(context: CommandContext, flags: UpFlags, options: MeshOptions): Promise<void> {
  const log = openLog('supervisor', flags.json ? 'silent' : 'info');
  const mesh = new Mesh(options, { log, env: context.env, tell: (line) => context.tell(line) });
  const stop = new Shutdown(log, 120_000);
  stop.own('mesh', mesh);
  const stopped = stop.onSignal();
  await mesh.start();
  printAddresses(context, flags, mesh.addresses, options);
  await stopped;
}

function printAddresses(
  context: CommandContext,
  flags: UpFlags,
  at: MeshState['addresses'],
  options: MeshOptions,
): void {
  if (flags.json) {
    context.print(JSON.stringify({ addresses: at, runDir: options.runDir, dataDir: options.dataDir }));
    return;
  }
  const gateway = options.ports.gateway === defaultPortBase ? '' : ` --gateway ${at.gateway}`;
  context.print(`gateway     ${at.gateway}   gRPC: wrenn.v1.SandboxService, ProcessService, …`);
  context.print(`             ${at.gatewayBulk}   the same for files: Read and Write of wrenn.v1.FilesystemService`);
  context.print(`edge-proxy  ${at.edgeProxy}   HTTP to ports of sandboxes`);
  const metrics = Object.values(at.metrics);
  if (metrics.length > 0) context.print(`metrics     ${metrics.join(' ')}   HTTP: /metrics of each process`);
  if (options.keepsTraces)
    context.print(`traces      http://${at.traces}   the last ones, for a browser; or \`wrenn trace\``);
  context.print(`logs        ${options.runDir}/logs`);
  context.print('');
  context.print('Next:');
  context.print(`  npx wrenn run${gateway} debian -- uname -a`);
  context.print(`  grpcurl -plaintext ${at.gateway} list`);
  context.print(`  npx wrenn down${options.runDir === defaultRunDir ? '' : ` --run-dir ${options.runDir}`}`);
}
