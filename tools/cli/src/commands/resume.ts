import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';

import { parseMs } from '../output/units.ts';
import { whileWaiting } from '../output/waiting.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { tellOutcome } from './pause.ts';

interface ResumeFlags extends GatewayOption {
  readonly ttl?: string;
  readonly json?: true;
}

const resumeLimitMs = 90_000;

export function resumeCommand(context: CommandContext): Command {
  const command = new Command('resume')
    .description('let a paused sandbox go on where it was frozen')
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--ttl <time>', 'time to live from now, like 30m (default: its own)')
    .option('--json', 'print the sandbox and its timings as JSON')
    .addOption(gatewayOption())
    .action(async (text: string, flags: ResumeFlags) => {
      const ttl = flags.ttl === undefined ? undefined : durationOfMs(parseMs(flags.ttl));
      using client = openClient(context, flags);
      const sandboxId = await client.findId(text);
      const resumed = await whileWaiting(`resuming ${sandboxId}`, process.stderr, () =>
        client.sandboxes.resume({ sandboxId, ...(ttl && { ttl }) }, inMs(resumeLimitMs)),
      );
      tellOutcome(context, resumed, 'resumed', flags);
    });
  return withExamples(command, 'wrenn resume cl-4f0', 'wrenn resume cl-4f0 --ttl 2h');
}
