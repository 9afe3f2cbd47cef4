import { randomBytes } from 'node:crypto';

import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';

import type { MeshClient } from '../client.ts';
import { ExitError, UsageError, exitCodes } from '../exit-codes.ts';
import { parsePairs } from '../output/units.ts';
import { defaultDetachKeys, parseDetachKeys } from '../shell/detach-keys.ts';
import { LocalTerminal } from '../shell/local-terminal.ts';
import { type ShellOptions, TerminalSession } from '../shell/terminal-session.ts';
import {
  type CommandContext,
  type GatewayOption,
  collect,
  gatewayOption,
  openClient,
  withExamples,
} from './context.ts';
import { createSandbox } from './create.ts';
import { specOf } from './exec.ts';

type ShellFlags = GatewayOption & {
  readonly template?: string;
  readonly tag?: string;
  readonly user?: string;
  readonly cwd?: string;
  readonly env?: string[];
  readonly detachKeys: string;
};

// Whatever shell the user in the guest has, as at a login.
const loginShell = ['/bin/sh', '-c', 'exec "${SHELL:-/bin/sh}" -l'];

export function shellCommand(context: CommandContext): Command {
  const command = new Command('shell')
    .description('a terminal in a sandbox, which goes on when you leave it; exit with the code of what ran in it')
    .argument('[id]', 'sandbox id, or enough of it; none with --template')
    .argument('[command...]', "what to run in it, after `--` (default: the user's shell)")
    .option('--template <name>', 'make a sandbox for it, and destroy that when it has ended')
    .option('--tag <name>', 'come back to the terminal of that name; open it where there is none')
    .option('--user <name>', "who runs it (default: the template's user)")
    .option('--cwd <dir>', "where (default: the user's home)")
    .option('--env <NAME=value>', 'variable for it; may be repeated', collect)
    .option('--detach-keys <keys>', 'leave it, without ending it, by these keys', defaultDetachKeys)
    .addOption(gatewayOption())
    .action(async (id: string | undefined, command: string[], flags: ShellFlags) => {
      const detachKeys = parseDetachKeys(flags.detachKeys);
      const words = flags.template === undefined || id === undefined ? command : [id, ...command];
      if (flags.template === undefined && id === undefined) throw new UsageError('name a sandbox, or a --template');
      if (!process.stdin.isTTY || !process.stdout.isTTY) {
        throw new UsageError('a shell needs a terminal; to run a command without one, use `wrenn exec`');
      }
      using client = openClient(context, flags);
      const sandboxId =
        flags.template === undefined ? await client.findId(id ?? '') : await made(client, flags.template);
      const tag = flags.tag ?? `shell-${randomBytes(5).toString('hex')}`;
      const spec = specOf(words.length > 0 ? words : loginShell, flags, parsePairs(flags.env ?? [], '--env'));
      const options = { sandboxId, tag, spec, detachKeys };
      throw new ExitError(await joined(context, client, options, flags.template !== undefined));
    });
  return withExamples(
    command,
    'wrenn shell cl-4f0',
    'wrenn shell --template debian',
    'wrenn shell cl-4f0 --tag work          # leave it with Enter ~ . and come back with the same line',
    'wrenn shell cl-4f0 --detach-keys ctrl-p,ctrl-q -- python3',
  );
}

async function made(client: MeshClient, template: string): Promise<string> {
  const { sandbox } = await createSandbox(client, template, {});
  if (!sandbox) throw new Error('the gateway answered without a sandbox');
  return sandbox.id;
}

// Returns the code to exit with.
async function joined(
  context: CommandContext,
  client: MeshClient,
  options: ShellOptions,
  isOurs: boolean,
): Promise<number> {
  const { sandboxId, tag } = options;
  let signalCode: number | undefined;
  const local = new LocalTerminal(process.stdin, process.stdout);
  const session = new TerminalSession(client, local, options);
  const onEnd = (exitCode: number) => {
    signalCode = exitCode;
    session.leave();
  };
  let isKept = false;
  try {
    local.take(
      (keys) => session.type(keys),
      () => void session.resize(),
      onEnd,
    );
    const ending = await session.run();
    if (ending.kind === 'exited') return ending.exitCode;
    isKept = true;
    local[Symbol.dispose]();
    context.tell(`\nwrenn: left; come back with \`wrenn shell ${sandboxId} --tag ${tag}\``);
    return signalCode ?? (ending.kind === 'lost' ? exitCodes.unreachable : exitCodes.ok);
  } finally {
    local[Symbol.dispose]();
    if (isOurs && !isKept) await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
  }
}
