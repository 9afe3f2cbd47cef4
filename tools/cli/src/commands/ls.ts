import { toJson } from '@bufbuild/protobuf';
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { Command } from 'commander';

import { type Sandbox, SandboxSchema, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import { everyState } from '../client.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatAge, formatBytes } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

type ListFlags = GatewayOption & { readonly all?: true; readonly json?: true; readonly quiet?: true };

export function lsCommand(context: CommandContext): Command {
  const command = new Command('ls')
    .description('list sandboxes, newest first')
    .option('-a, --all', 'also those that are destroyed or failed in the last 24 h')
    .option('-q, --quiet', 'print ids only')
    .option('--json', 'print them as JSON, one a line')
    .addOption(gatewayOption())
    .action(async (flags: ListFlags) => {
      using client = openClient(context, flags);
      const sandboxes = await Array.fromAsync(client.list(flags.all ? everyState : []));
      if (flags.json) for (const sandbox of sandboxes) context.print(JSON.stringify(toJson(SandboxSchema, sandbox)));
      else if (flags.quiet) for (const { id } of sandboxes) context.print(id);
      else if (sandboxes.length === 0) context.tell('no sandboxes; make one with `wrenn create`');
      else context.print(sandboxTable(sandboxes, Date.now()));
    });
  return withExamples(command, 'wrenn ls', 'wrenn ls --all', 'wrenn ls -q | xargs wrenn rm');
}

export function sandboxTable(sandboxes: readonly Sandbox[], nowMs: number): string {
  const rows = sandboxes.map((sandbox) => [
    sandbox.id,
    printable(sandbox.template),
    stateName(sandbox),
    ageOf(sandbox.createdAt, (at) => nowMs - at),
    // A paused one waits for as long as it takes.
    isOver(sandbox) || isPaused(sandbox) ? '-' : ageOf(sandbox.expiresAt, (at) => at - nowMs),
    String(sandbox.vcpuCount),
    formatBytes(sandbox.memoryBytes),
    labelsOf(sandbox.metadata),
  ]);
  return table(['ID', 'TEMPLATE', 'STATE', 'AGE', 'EXPIRES IN', 'CPU', 'MEMORY', 'METADATA'], rows);
}

export function stateName({ state, errorReason }: Sandbox): string {
  const name = Object.entries(SandboxState).find(([, value]) => value === state)?.[0] ?? String(state);
  return errorReason ? `${name.toLowerCase()} (${printable(errorReason)})` : name.toLowerCase();
}

export function labelsOf(metadata: Readonly<Record<string, string>>): string {
  return Object.entries(metadata)
    .map(([key, value]) => `${printable(key)}=${printable(value)}`)
    .join(' ');
}

function isPaused({ state }: Sandbox): boolean {
  return state === SandboxState.PAUSED;
}

function isOver({ state }: Sandbox): boolean {
  return state === SandboxState.DESTROYED || state === SandboxState.ERROR;
}

function ageOf(at: Timestamp | undefined, spanOf: (atMs: number) => number): string {
  return at ? formatAge(spanOf(timestampMs(at))) : '-';
}
