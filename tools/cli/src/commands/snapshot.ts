import { toJson } from '@bufbuild/protobuf';
import { timestampDate, timestampMs } from '@bufbuild/protobuf/wkt';
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { type Snapshot, SnapshotSchema } from '@wrenn/proto/wrenn/v1/snapshot';

import { ExitError, describeError, exitCodeOf } from '../exit-codes.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatAge, formatBytes } from '../output/units.ts';
import { whileWaiting } from '../output/waiting.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface JsonFlags extends GatewayOption {
  readonly json?: true;
}

const createLimitMs = 900_000;
const limitMs = 30_000;

export function snapshotCommand(context: CommandContext): Command {
  return new Command('snapshot')
    .description('named snapshots: sandboxes frozen in mid-run, from which `wrenn create` makes new ones')
    .addCommand(createCommand(context))
    .addCommand(lsCommand(context))
    .addCommand(inspectCommand(context))
    .addCommand(rmCommand(context));
}

function createCommand(context: CommandContext): Command {
  const command = new Command('create')
    .description('make a named snapshot of a running or paused sandbox, which keeps its state')
    .argument('<id>', 'sandbox id, or enough of it')
    .argument('<name>', 'what to call it; no template and no other snapshot has that name')
    .option('--request-id <id>', 'an id of your own: calling again with it gets the same snapshot, for 24 h')
    .option('--json', 'print it as JSON')
    .addOption(gatewayOption())
    .action(async (text: string, name: string, flags: JsonFlags & { readonly requestId?: string }) => {
      using client = openClient(context, flags);
      const sandboxId = await client.findId(text);
      const request = { sandboxId, name, requestId: flags.requestId ?? '' };
      const { snapshot } = await whileWaiting(`writing ${name}`, process.stderr, () =>
        client.snapshots.create(request, inMs(createLimitMs)),
      );
      context.print(flags.json ? jsonOf(present(snapshot)) : present(snapshot).name);
    });
  return withExamples(
    command,
    'wrenn snapshot create cl-4f0 warm',
    'wrenn snapshot create cl-4f0 warm && wrenn create warm',
  );
}

function lsCommand(context: CommandContext): Command {
  const command = new Command('ls')
    .description('list named snapshots, by name')
    .option('--json', 'print them as JSON, one a line')
    .addOption(gatewayOption())
    .action(async (flags: JsonFlags) => {
      using client = openClient(context, flags);
      const { snapshots } = await client.snapshots.list({}, inMs(limitMs));
      if (flags.json) for (const snapshot of snapshots) context.print(jsonOf(snapshot));
      else if (snapshots.length === 0) context.tell('no snapshots; make one with `wrenn snapshot create`');
      else context.print(snapshotTable(snapshots, Date.now()));
    });
  return withExamples(command, 'wrenn snapshot ls', 'wrenn snapshot ls --json | jq -r .name');
}

function inspectCommand(context: CommandContext): Command {
  const command = new Command('inspect')
    .description('show everything known about a snapshot: what it was made of, and its chain of generations')
    .argument('<name>')
    .option('--json', 'as JSON')
    .addOption(gatewayOption())
    .action(async (name: string, flags: JsonFlags) => {
      using client = openClient(context, flags);
      const snapshot = present((await client.snapshots.get({ name }, inMs(limitMs))).snapshot);
      context.print(flags.json ? JSON.stringify(toJson(SnapshotSchema, snapshot), null, 2) : describe(snapshot));
    });
  return withExamples(command, 'wrenn snapshot inspect warm', 'wrenn snapshot inspect warm --json | jq .builds');
}

function rmCommand(context: CommandContext): Command {
  const command = new Command('rm')
    .description('delete snapshots; sandboxes made from them go on')
    .argument('<names...>')
    .addOption(gatewayOption())
    .action(async (names: string[], flags: GatewayOption) => {
      using client = openClient(context, flags);
      let exitCode = 0;
      for (const name of names) {
        try {
          await client.snapshots.delete({ name }, inMs(limitMs));
          context.print(name);
        } catch (error) {
          // One that cannot be deleted does not keep the others.
          context.tell(`${name}: ${describeError(error, client.gateway)}`);
          exitCode = exitCodeOf(error);
        }
      }
      if (exitCode !== 0) throw new ExitError(exitCode);
    });
  return withExamples(command, 'wrenn snapshot rm warm');
}

function snapshotTable(snapshots: readonly Snapshot[], nowMs: number): string {
  const rows = snapshots.map((snapshot) => [
    printable(snapshot.name),
    printable(snapshot.template),
    printable(snapshot.hostId),
    snapshot.createdAt ? formatAge(nowMs - timestampMs(snapshot.createdAt)) : '-',
    String(snapshot.vcpuCount),
    formatBytes(snapshot.memoryBytes),
    String(snapshot.generation),
  ]);
  return table(['NAME', 'TEMPLATE', 'HOST', 'AGE', 'CPU', 'MEMORY', 'GENERATION'], rows);
}

function describe(snapshot: Snapshot): string {
  const rows: [string, string][] = [
    ['name', printable(snapshot.name)],
    ['id', snapshot.id],
    ['problem', printable(snapshot.problem)],
    ['sandbox', snapshot.sandboxId],
    ['template', printable(snapshot.template)],
    ['host', printable(snapshot.hostId)],
    ['cpu', String(snapshot.vcpuCount)],
    ['memory', formatBytes(snapshot.memoryBytes)],
    ['disk', formatBytes(snapshot.diskBytes)],
    ['created', snapshot.createdAt ? timestampDate(snapshot.createdAt).toISOString() : ''],
    ['generation', snapshot.generation === 0 ? '0 (full)' : String(snapshot.generation)],
  ];
  const facts = rows.filter(([, value]) => value !== '').map(([name, value]) => `${name.padEnd(12)}${value}`);
  if (snapshot.builds.length === 0) return facts.join('\n');
  const chain = snapshot.builds.map((build) => [
    String(build.generation),
    printable(build.id),
    formatBytes(build.memoryBytes),
    formatBytes(build.diskBytes),
  ]);
  return [...facts, '', table(['GENERATION', 'BUILD', 'MEMORY', 'DISK'], chain)].join('\n');
}

function jsonOf(snapshot: Snapshot): string {
  return JSON.stringify(toJson(SnapshotSchema, snapshot));
}

function present(snapshot: Snapshot | undefined): Snapshot {
  if (!snapshot) throw new Error('the gateway answered without a snapshot');
  return snapshot;
}
