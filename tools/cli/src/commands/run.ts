import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';

import { ExitError } from '../exit-codes.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { type SizeFlags, addSizeFlags, createSandbox } from './create.ts';
import { type ProcessFlags, addProcessFlags, execAttached, specOf } from './exec.ts';

type RunFlags = SizeFlags & Omit<ProcessFlags, 'env'> & GatewayOption & { readonly keep?: true };

export function runCommand(context: CommandContext): Command {
  const command = addProcessFlags(addSizeFlags(new Command('run')))
    .description("create a sandbox, run one command in it, destroy it; exit with the command's code")
    .argument('<template>', 'what to make it from')
    .argument('<command...>', 'what to run, after `--`')
    .option('--keep', 'leave the sandbox running and print its id to stderr')
    .addOption(gatewayOption())
    .action(async (template: string, words: string[], flags: RunFlags) => {
      using client = openClient(context, flags);
      const { sandbox } = await createSandbox(client, template, flags);
      const sandboxId = sandbox?.id ?? '';
      try {
        throw new ExitError(await execAttached(client, sandboxId, specOf(words, flags, {}), flags));
      } finally {
        if (flags.keep) context.tell(sandboxId);
        else await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
      }
    });
  return withExamples(
    command,
    'wrenn run debian -- uname -a',
    'echo "print(6*7)" | wrenn run debian -- python3 -',
    "wrenn run minimal --memory 256M --timeout 10s -- sh -c 'echo hello; exit 3'",
  );
}
