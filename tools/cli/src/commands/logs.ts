import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';

import { printableLines } from '../output/printable.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

type LogFlags = GatewayOption & { readonly raw?: true };

export function logsCommand(context: CommandContext): Command {
  const command = new Command('logs')
    .description("show the end of a sandbox's console: its kernel and guest agent, at most 64 KiB")
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--raw', 'the bytes as the guest wrote them: they may steer your terminal')
    .addOption(gatewayOption())
    .action(async (id: string, flags: LogFlags) => {
      using client = openClient(context, flags);
      const { console } = await client.logs.readConsole({ sandboxId: await client.findId(id) }, inMs(30_000));
      if (flags.raw) process.stdout.write(console);
      else context.print(printableLines(Buffer.from(console).toString('utf8').trimEnd()));
    });
  return withExamples(command, 'wrenn logs cl-4f0', 'wrenn logs cl-4f0 --raw > console.log');
}
