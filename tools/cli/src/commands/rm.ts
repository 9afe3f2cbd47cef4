import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';

import { ExitError, UsageError, describeError, exitCodeOf } from '../exit-codes.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

type RemoveFlags = GatewayOption & { readonly all?: true };

export function rmCommand(context: CommandContext): Command {
  const command = new Command('rm')
    .description('destroy sandboxes; returns once everything they held is released')
    .argument('[ids...]', 'sandbox ids, or enough of them')
    .option('--all', 'every sandbox')
    .addOption(gatewayOption())
    .action(async (ids: string[], flags: RemoveFlags) => {
      if (ids.length === 0 && !flags.all) throw new UsageError('name the sandboxes to destroy, or say --all');
      using client = openClient(context, flags);
      const all = flags.all ? await Array.fromAsync(client.list(), ({ id }) => id) : [];
      let exitCode = 0;
      for (const text of [...ids, ...all]) {
        try {
          const sandboxId = await client.findId(text);
          await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
          context.print(sandboxId);
        } catch (error) {
          // One that cannot be destroyed does not keep the others.
          context.tell(`${text}: ${describeError(error, client.gateway)}`);
          exitCode = exitCodeOf(error);
        }
      }
      if (exitCode !== 0) throw new ExitError(exitCode);
    });
  return withExamples(command, 'wrenn rm cl-4f0', 'wrenn rm --all');
}
