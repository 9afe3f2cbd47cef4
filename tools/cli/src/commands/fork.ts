import { toJson } from '@bufbuild/protobuf';
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { SandboxSchema, StageTimingSchema } from '@wrenn/proto/wrenn/v1/sandbox';

import { parseCount, parseMs, parsePairs } from '../output/units.ts';
import { whileWaiting } from '../output/waiting.ts';
import {
  type CommandContext,
  type GatewayOption,
  collect,
  gatewayOption,
  openClient,
  withExamples,
} from './context.ts';
import { describeTimings } from './create.ts';

interface ForkFlags extends GatewayOption {
  readonly count?: string;
  readonly ttl?: string;
  readonly env?: string[];
  readonly meta?: string[];
  readonly requestId?: string;
  readonly json?: true;
}

const forkLimitMs = 150_000;

export function forkCommand(context: CommandContext): Command {
  const command = new Command('fork')
    .description('make copies of a sandbox that all go on from the same instant, and print their ids')
    .argument('<id>', 'sandbox id, or enough of it; it keeps its state')
    .option('-n, --count <n>', 'how many, 1 to 64 (default: 1)')
    .option('--ttl <time>', "time to live of each, like 30m (default: the source's)")
    .option('--env <NAME=value>', "added to the source's variables in each; may be repeated", collect)
    .option('--meta <key=value>', 'label of each; may be repeated', collect)
    .option('--request-id <id>', 'an id of your own: calling again with it gets the same sandboxes, for 24 h')
    .option('--json', 'print the sandboxes and the timings as JSON')
    .addOption(gatewayOption())
    .action(async (text: string, flags: ForkFlags) => {
      const wanted = forkRequestOf(flags);
      using client = openClient(context, flags);
      const sandboxId = await client.findId(text);
      const { sandboxes, timings } = await whileWaiting(`forking ${sandboxId}`, process.stderr, () =>
        client.sandboxes.fork({ sandboxId, ...wanted }, inMs(forkLimitMs)),
      );
      if (flags.json) {
        const made = sandboxes.map((sandbox) => toJson(SandboxSchema, sandbox));
        const stages = timings.map((timing) => toJson(StageTimingSchema, timing));
        context.print(JSON.stringify({ sandboxes: made, timings: stages }));
        return;
      }
      for (const { id } of sandboxes) context.print(id);
      context.tell(timings.length > 0 ? describeTimings(timings, 'forked') : 'they were made by an earlier call');
    });
  return withExamples(
    command,
    'wrenn fork cl-4f0',
    'wrenn fork cl-4f0 -n 8 --ttl 10m --env ROLE=worker',
    'wrenn fork cl-4f0 -n 3 --json | jq -r .sandboxes[].id',
  );
}

export function forkRequestOf(flags: Omit<ForkFlags, 'gateway'>) {
  return {
    count: flags.count === undefined ? 1 : parseCount(flags.count, '--count', 1, 64),
    env: parsePairs(flags.env ?? [], '--env'),
    metadata: parsePairs(flags.meta ?? [], '--meta'),
    requestId: flags.requestId ?? '',
    ...(flags.ttl !== undefined && { ttl: durationOfMs(parseMs(flags.ttl)) }),
  };
}
