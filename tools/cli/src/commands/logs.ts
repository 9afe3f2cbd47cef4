import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';

import type { MeshClient } from '../client.ts';
import { LineSplitter } from '../output/line-splitter.ts';
import { printableLines } from '../output/printable.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { stateName } from './ls.ts';

interface LogFlags extends GatewayOption {
  readonly follow?: true;
  readonly raw?: true;
}

export function logsCommand(context: CommandContext): Command {
  const command = new Command('logs')
    .description("show a sandbox's console, its kernel and guest agent: the last 64 KiB, also of one that has ended")
    .argument('<id>', 'sandbox id, or enough of it')
    .option('-f, --follow', 'all that is stored, at most 512 KiB, and what comes, until it is paused or ends')
    .option('--raw', 'the bytes as the guest wrote them: they may steer your terminal')
    .addOption(gatewayOption())
    .action(async (id: string, flags: LogFlags) => {
      using client = openClient(context, flags);
      const sandboxId = await client.findId(id);
      if (flags.follow) {
        await follow(context, client, sandboxId, flags.raw ?? false);
        return;
      }
      const { console } = await client.logs.readConsole({ sandboxId }, inMs(30_000));
      if (flags.raw) process.stdout.write(console);
      else context.print(printableLines(Buffer.from(console).toString('utf8').trimEnd()));
    });
  return withExamples(command, 'wrenn logs cl-4f0', 'wrenn logs -f cl-4f0', 'wrenn logs cl-4f0 --raw > console.log');
}

async function follow(context: CommandContext, client: MeshClient, sandboxId: string, isRaw: boolean): Promise<void> {
  const lines = new LineSplitter();
  for await (const { console } of client.logs.follow({ sandboxId }, {})) {
    if (isRaw) process.stdout.write(console);
    else for (const line of lines.take(console)) context.print(printableLines(line));
  }
  const rest = lines.end();
  if (rest !== '') context.print(printableLines(rest));
  const { sandbox } = await client.sandboxes.get({ sandboxId }, inMs(30_000));
  if (sandbox) context.tell(`${sandboxId} is ${stateName(sandbox)}`);
}
