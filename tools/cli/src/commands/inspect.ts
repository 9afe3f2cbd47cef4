import { toJson } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { msOfDuration } from '@wrenn/kit/duration';
import { type Sandbox, SandboxSchema, SandboxState, TimeoutAction } from '@wrenn/proto/wrenn/v1/sandbox';

import { printable } from '../output/printable.ts';
import { formatAge, formatBytes } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { labelsOf, stateName } from './ls.ts';

export function inspectCommand(context: CommandContext): Command {
  const command = new Command('inspect')
    .description('show everything known about a sandbox')
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--json', 'as JSON')
    .addOption(gatewayOption())
    .action(async (id: string, flags: GatewayOption & { readonly json?: true }) => {
      using client = openClient(context, flags);
      const { sandbox } = await client.sandboxes.get({ sandboxId: await client.findId(id) }, inMs(30_000));
      if (!sandbox) throw new Error('the gateway answered without a sandbox');
      context.print(flags.json ? JSON.stringify(toJson(SandboxSchema, sandbox), null, 2) : describe(sandbox));
    });
  return withExamples(command, 'wrenn inspect cl-4f0', 'wrenn inspect cl-4f0 --json | jq .state');
}

function describe(sandbox: Sandbox): string {
  const isPaused = sandbox.state === SandboxState.PAUSED;
  const rows: [string, string][] = [
    ['id', sandbox.id],
    ['template', printable(sandbox.template)],
    ['state', stateName(sandbox)],
    ['error', printable(sandbox.errorMessage)],
    ['host', printable(sandbox.hostId)],
    ['cpu', String(sandbox.vcpuCount)],
    ['memory', formatBytes(sandbox.memoryBytes)],
    ['disk', formatBytes(sandbox.diskBytes)],
    ['created', sandbox.createdAt ? timestampDate(sandbox.createdAt).toISOString() : ''],
    ['expires', sandbox.expiresAt && !isPaused ? timestampDate(sandbox.expiresAt).toISOString() : ''],
    ['ttl', sandbox.ttl ? formatAge(msOfDuration(sandbox.ttl)) : ''],
    ['then', sandbox.onTimeout === TimeoutAction.PAUSE ? 'it is paused' : 'it is destroyed'],
    ['resumed', sandbox.autoResume ? 'by the next call that needs it' : ''],
    ['ports', portAccess(sandbox)],
    ['snapshot', sandbox.snapshotId],
    ['durable', durabilityOf(sandbox)],
    ['metadata', labelsOf(sandbox.metadata)],
    ['version', String(sandbox.version)],
  ];
  return rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name.padEnd(10)}${value}`)
    .join('\n');
}

function portAccess({ secure, publicPorts }: Sandbox): string {
  if (!secure) return 'open to everybody';
  const but = publicPorts.length === 0 ? '' : `; ${publicPorts.join(', ')} open to everybody`;
  return `for who shows its token${but}`;
}

function durabilityOf({ state, isDurable }: Sandbox): string {
  if (state !== SandboxState.PAUSED) return '';
  return isDurable ? 'yes' : 'not yet: a power cut could lose it';
}
