import { toJson } from '@bufbuild/protobuf';
import { Command, Option } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs, msOfDuration } from '@wrenn/kit/duration';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import {
  type SandboxServiceCreateResponse,
  type StageTiming,
  SandboxSchema,
  StageTimingSchema,
  TimeoutAction,
} from '@wrenn/proto/wrenn/v1/sandbox';

import type { MeshClient } from '../client.ts';
import { UsageError } from '../exit-codes.ts';
import { printable } from '../output/printable.ts';
import { formatMs, parseBytes, parseCount, parseMs, parsePairs } from '../output/units.ts';
import {
  type CommandContext,
  type GatewayOption,
  collect,
  gatewayOption,
  openClient,
  withExamples,
} from './context.ts';

export interface SizeFlags extends PortAccessFlags {
  readonly cpu?: string;
  readonly memory?: string;
  readonly disk?: string;
  readonly ttl?: string;
  readonly env?: string[];
  readonly meta?: string[];
  readonly requestId?: string;
  readonly queue?: string;
  readonly project?: string;
  readonly onTimeout?: string;
  readonly autoResume?: true;
}

type CreateFlags = SizeFlags & GatewayOption & { readonly json?: true };

export const defaultTemplate = 'debian';
const createLimitMs = 150_000;
const timeoutActions: Record<string, TimeoutAction> = {
  destroy: TimeoutAction.DESTROY,
  pause: TimeoutAction.PAUSE,
};

export function addSizeFlags(command: Command): Command {
  return command
    .option('--cpu <n>', "virtual CPUs (default: the template's)")
    .option('--memory <size>', "memory, like 512M (default: the template's)")
    .option('--disk <size>', "size of the root disk, like 4G (default: the template's)")
    .option('--ttl <time>', 'time to live, like 30m (default: 1h)')
    .option('--env <NAME=value>', 'variable of every process in it; may be repeated', collect)
    .option('--meta <key=value>', 'label of your own; may be repeated', collect)
    .option('--request-id <id>', 'an id of your own: calling again with it gets the same sandbox, for 24 h')
    .option('--queue <time>', 'how long to wait where there is no room, like 2m (default: not at all)')
    .option('--project <name>', 'whose quota it counts against (default: default)');
}

export function createCommand(context: CommandContext): Command {
  const command = addSizeFlags(new Command('create'))
    .description('create a sandbox and print its id')
    .argument('[template]', 'what to make it from: a template, or a snapshot to go on from', defaultTemplate)
    .addOption(new Option('--on-timeout <action>', 'what happens when its time is up').choices(['destroy', 'pause']))
    .option('--auto-resume', 'resume it, when it is paused, for the next call that needs it')
    .option('--secure', 'serve its ports to who shows its token only; see `wrenn access`')
    .option('--public-port <n>', 'with --secure: a port for everybody all the same; may be repeated', collect)
    .addOption(gatewayOption())
    .option('--json', 'print the sandbox and its timings as JSON')
    .action(async (template: string, flags: CreateFlags) => {
      using client = openClient(context, flags);
      const { sandbox, timings } = await createSandbox(client, template, flags);
      if (!sandbox) throw new Error('the gateway answered without a sandbox');
      if (flags.json) {
        const stages = timings.map((timing) => toJson(StageTimingSchema, timing));
        context.print(JSON.stringify({ sandbox: toJson(SandboxSchema, sandbox), timings: stages }));
        return;
      }
      context.print(sandbox.id);
      context.tell(describeTimings(timings));
    });
  return withExamples(
    command,
    'wrenn create',
    'wrenn create minimal --ttl 10m --meta owner=ada',
    'id=$(wrenn create debian --cpu 2 --memory 1G 2>/dev/null)',
    'wrenn create --ttl 15m --on-timeout pause --auto-resume',
    'wrenn create --secure --public-port 8000',
    'wrenn create --request-id nightly-42 --queue 5m --project team-a',
  );
}

export async function createSandbox(
  client: MeshClient,
  template: string,
  flags: SizeFlags,
): Promise<SandboxServiceCreateResponse> {
  const queueMs = flags.queue === undefined ? 0 : parseMs(flags.queue);
  try {
    return await client.sandboxes.create(requestOf(template, flags), inMs(createLimitMs + queueMs));
  } catch (error) {
    throw describeCreateProblem(error, flags);
  }
}

export function requestOf(template: string, flags: SizeFlags) {
  return {
    template,
    vcpuCount: flags.cpu === undefined ? 0 : parseCount(flags.cpu, '--cpu', 1, 32),
    memoryBytes: flags.memory === undefined ? 0n : parseBytes(flags.memory),
    diskBytes: flags.disk === undefined ? 0n : parseBytes(flags.disk),
    env: parsePairs(flags.env ?? [], '--env'),
    metadata: parsePairs(flags.meta ?? [], '--meta'),
    requestId: flags.requestId ?? '',
    project: flags.project ?? '',
    ...(flags.onTimeout !== undefined && { onTimeout: timeoutActions[flags.onTimeout] ?? TimeoutAction.UNSPECIFIED }),
    ...(flags.autoResume && { autoResume: true }),
    ...portAccessOf(flags),
    ...(flags.ttl !== undefined && { ttl: durationOfMs(parseMs(flags.ttl)) }),
    ...(flags.queue !== undefined && { queueTimeout: durationOfMs(parseMs(flags.queue)) }),
  };
}

export interface PortAccessFlags {
  readonly secure?: true;
  readonly publicPort?: string[];
}

export function portAccessOf({ secure, publicPort }: PortAccessFlags) {
  if (!secure && publicPort) throw new UsageError('--public-port goes with --secure: without it every port is public');
  return secure ? { secure, publicPorts: (publicPort ?? []).map(parsePort) } : {};
}

export function parsePort(text: string): number {
  return parseCount(text, 'a port', 1, 65_535);
}

// Where waiting would help and was not asked for, the way to ask for it.
export function describeCreateProblem(error: unknown, flags: SizeFlags): unknown {
  const mayWait = hasReason(error, 'NO_HOST_LEFT', 'QUOTA_EXCEEDED') && error.meta['too_large'] === undefined;
  if (!mayWait || flags.queue !== undefined) return error;
  const message = `${error.message}; wait for room with --queue 2m`;
  return new WrennError(error.reason, message, { meta: error.meta, cause: error });
}

export function describeTimings(timings: readonly StageTiming[], what = 'created'): string {
  const stages = timings.map(
    ({ stage, duration }) => `${printable(stage)} ${formatMs(duration ? msOfDuration(duration) : 0)}`,
  );
  return `${what}: ${stages.join(', ')}`;
}
