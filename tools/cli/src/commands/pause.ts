import { toJson } from '@bufbuild/protobuf';
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { SandboxSchema, type SandboxServicePauseResponse, StageTimingSchema } from '@wrenn/proto/wrenn/v1/sandbox';

import { whileWaiting } from '../output/waiting.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { describeTimings } from './create.ts';

interface PauseFlags extends GatewayOption {
  readonly wait?: true;
  readonly json?: true;
}

const pauseLimitMs = 90_000;
const durableLimitMs = 900_000;

export function pauseCommand(context: CommandContext): Command {
  const command = new Command('pause')
    .description('freeze a sandbox into a snapshot; it holds files of its host then, and nothing else')
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--wait', 'return only once a power cut cannot lose it any more')
    .option('--json', 'print the sandbox and its timings as JSON')
    .addOption(gatewayOption())
    .action(async (text: string, flags: PauseFlags) => {
      using client = openClient(context, flags);
      const sandboxId = await client.findId(text);
      const paused = await whileWaiting(`pausing ${sandboxId}`, process.stderr, () =>
        client.sandboxes.pause({ sandboxId }, inMs(pauseLimitMs)),
      );
      const durable = flags.wait
        ? await whileWaiting(`writing the snapshot of ${sandboxId}`, process.stderr, () =>
            client.sandboxes.pause({ sandboxId, waitDurable: true }, inMs(durableLimitMs)),
          )
        : paused;
      tellOutcome(context, { ...durable, timings: paused.timings }, 'paused', flags);
    });
  return withExamples(command, 'wrenn pause cl-4f0', 'wrenn pause cl-4f0 --wait --json | jq .sandbox.snapshotId');
}

export function tellOutcome(
  context: CommandContext,
  { sandbox, timings }: Pick<SandboxServicePauseResponse, 'sandbox' | 'timings'>,
  what: 'paused' | 'resumed',
  flags: { readonly json?: true },
): void {
  if (!sandbox) throw new Error('the gateway answered without a sandbox');
  if (flags.json) {
    const stages = timings.map((timing) => toJson(StageTimingSchema, timing));
    context.print(JSON.stringify({ sandbox: toJson(SandboxSchema, sandbox), timings: stages }));
    return;
  }
  context.print(sandbox.id);
  const isPause = what === 'paused';
  context.tell(timings.length > 0 ? describeTimings(timings, what) : `it was ${isPause ? what : 'running'} already`);
  if (isPause) context.tell(sandbox.isDurable ? 'durable' : 'being written to disk; --wait waits for it');
}
