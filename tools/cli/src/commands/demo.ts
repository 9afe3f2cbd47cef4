// The main job from end to end: a sandbox is made, used, destroyed, and nothing of it is left.
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { msOfDuration } from '@wrenn/kit/duration';
import { openLog } from '@wrenn/kit/log';

import { MeshClient } from '../client.ts';
import { ExitError, exitCodes } from '../exit-codes.ts';
import { awaitNoLeftovers, takeInventory } from '../leak-check/leak-check.ts';
import { isClaimed } from '../mesh/claim.ts';
import { destroyAll } from '../mesh/destroy-all.ts';
import { Mesh } from '../mesh/mesh.ts';
import type { MeshOptions } from '../mesh/options.ts';
import { readState } from '../mesh/state-file.ts';
import { tidy } from '../mesh/tidy.ts';
import { printableLines } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatMs } from '../output/units.ts';
import { type CommandContext, withExamples } from './context.ts';
import { defaultTemplate } from './create.ts';
import { type MeshFlags, addMeshFlags, meshOptionsOf } from './mesh-options.ts';

interface DemoCommand {
  readonly shown: string;
  readonly command: string;
  readonly args: string[];
  readonly stdin: string;
}

const demoCommands: readonly DemoCommand[] = [
  { shown: 'uname -a', command: 'uname', args: ['-a'], stdin: '' },
  {
    shown: 'python3 -c "print(sum(range(101)))"',
    command: 'python3',
    args: ['-c', 'print(sum(range(101)))'],
    stdin: '',
  },
  {
    shown: 'printf "wrenn\\nsandbox\\n" | tr a-z A-Z',
    command: 'tr',
    args: ['a-z', 'A-Z'],
    stdin: 'wrenn\nsandbox\n',
  },
];

type Rows = [string, string][];

export function demoCommand(context: CommandContext): Command {
  const command = addMeshFlags(new Command('demo'))
    .description('show that everything works: start a mesh, use a sandbox, remove all traces')
    .action((flags: MeshFlags) => demo(context, meshOptionsOf(flags, context)));
  return withExamples(command, 'wrenn demo');
}

async function demo(context: CommandContext, options: MeshOptions): Promise<void> {
  const rows: Rows = [];
  if (await isClaimed(options.runDir)) {
    const state = await readState(options.runDir);
    if (!state) throw new Error(`the mesh in ${options.runDir} is just starting or stopping; try again in a moment`);
    context.print(`A mesh runs already at ${state.addresses.gateway}: using it, and leaving it running.`);
    await useSandbox(context, state.addresses.gateway, rows);
    printTimes(context, rows);
    return;
  }
  const before = await takeInventory(options);
  await useOwnMesh(context, options, rows);
  const startedAtMs = Date.now();
  const leftovers = await awaitNoLeftovers(options, before);
  rows.push(['leak check', formatMs(Date.now() - startedAtMs)]);
  printTimes(context, rows);
  if (leftovers.length > 0) {
    for (const line of leftovers) context.tell(`left behind: ${line}`);
    throw new ExitError(exitCodes.failure, `${leftovers.length} things are left behind; see ${options.runDir}/logs`);
  }
  await tidy(options);
  context.print('Nothing is left: no process, namespace, interface, route, nft table, mount, loop device or file.');
}

async function useOwnMesh(context: CommandContext, options: MeshOptions, rows: Rows): Promise<void> {
  const tell = (line: string) => context.print(`  ${line}`);
  const mesh = new Mesh(options, { log: openLog('supervisor', 'silent'), env: context.env, tell });
  // Ctrl-C ends the demo, not only this process: the mesh is stopped on the way out.
  const interrupted = Promise.withResolvers<never>();
  const interrupt = () => interrupted.reject(new ExitError(130, 'interrupted; everything was stopped'));
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, interrupt);
  interrupted.promise.catch(() => undefined); // Awaited below, if at all.
  try {
    context.print('Starting the mesh');
    await Promise.race([timed(rows, 'start the mesh', () => mesh.start()), interrupted.promise]);
    await Promise.race([useSandbox(context, mesh.addresses.gateway, rows), interrupted.promise]);
  } finally {
    context.print('Stopping the mesh');
    await timed(rows, 'stop the mesh', () => emptyAndClose(mesh, tell));
  }
}

// Whatever the demo was interrupted at, no sandbox of its mesh outlives it.
async function emptyAndClose(mesh: Mesh, tell: (line: string) => void): Promise<void> {
  try {
    using client = new MeshClient(mesh.addresses.gateway);
    await destroyAll(client, tell);
  } finally {
    await mesh.close();
  }
}

async function useSandbox(context: CommandContext, gateway: string, rows: Rows): Promise<void> {
  using client = new MeshClient(gateway);
  context.print(`\nCreating a sandbox from ${defaultTemplate}`);
  const created = await timed(rows, 'create', () =>
    client.sandboxes.create({ template: defaultTemplate }, inMs(150_000)),
  );
  for (const { stage, startedAfter, duration } of created.timings) {
    const at = startedAfter ? formatMs(msOfDuration(startedAfter)) : '?';
    rows.push([`  ${stage}`, `${duration ? formatMs(msOfDuration(duration)) : '?'} (from ${at})`]);
  }
  const sandboxId = created.sandbox?.id ?? '';
  context.print(`  ${sandboxId}`);
  try {
    for (const { shown, command, args, stdin } of demoCommands) {
      const process = { command, args, env: {}, cwd: '', user: '' };
      const request = { sandboxId, process, stdin: Buffer.from(stdin) };
      const result = await timed(rows, `exec ${command}`, () => client.processes.exec(request, inMs(70_000)));
      context.print(`\n$ ${shown}`);
      context.print(printableLines(Buffer.concat([result.stdout, result.stderr]).toString('utf8').trimEnd()));
      if (result.exitCode !== 0) throw new ExitError(exitCodes.failure, `${command} exited with ${result.exitCode}`);
    }
  } finally {
    await timed(rows, 'destroy', () => client.sandboxes.destroy({ sandboxId }, inMs(60_000)));
    context.print('\nDestroyed the sandbox');
  }
}

async function timed<T>(rows: Rows, stage: string, work: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  const row: [string, string] = [stage, ''];
  rows.push(row);
  try {
    return await work();
  } finally {
    row[1] = formatMs(performance.now() - startedAtMs);
  }
}

function printTimes(context: CommandContext, rows: Rows): void {
  context.print(`\n${table(['STAGE', 'TIME'], rows)}\n`);
}
