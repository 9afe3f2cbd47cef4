import { fstatSync } from 'node:fs';
import { constants } from 'node:os';

import { Command } from 'commander';

import type { MeshClient } from '../client.ts';
import { type CommandSpec, ExecSession } from '../exec-session.ts';
import { ExitError, exitCodes } from '../exit-codes.ts';
import { parseMs, parsePairs } from '../output/units.ts';
import {
  type CommandContext,
  type GatewayOption,
  collect,
  gatewayOption,
  openClient,
  withExamples,
} from './context.ts';

export interface ProcessFlags {
  readonly user?: string;
  readonly cwd?: string;
  readonly env?: string[];
  readonly timeout?: string;
  readonly stdin?: boolean; // False after --no-stdin.
  readonly interactive?: true;
}

// After this many the command line itself gives in, whatever the command in the sandbox does.
const lastInterrupt = 3;

export function addProcessFlags(command: Command): Command {
  return command
    .option('--user <name>', "who runs it (default: the template's user)")
    .option('--cwd <dir>', "where (default: the user's home)")
    .option('--timeout <time>', 'kill it after this time and exit with 124, like 30s')
    .option('-i, --interactive', 'forward stdin even if it is a terminal')
    .option('--no-stdin', 'give it no stdin, even if one is piped in');
}

export function execCommand(context: CommandContext): Command {
  const command = addProcessFlags(new Command('exec'))
    .description('run a command in a sandbox; its output, input and exit code become ours')
    .argument('<id>', 'sandbox id, or enough of it')
    .argument('<command...>', 'what to run, after `--`')
    .option('--env <NAME=value>', 'variable for it; may be repeated', collect)
    .addOption(gatewayOption())
    .action(async (id: string, words: string[], flags: ProcessFlags & GatewayOption) => {
      using client = openClient(context, flags);
      const spec = specOf(words, flags, parsePairs(flags.env ?? [], '--env'));
      throw new ExitError(await execAttached(client, await client.findId(id), spec, flags));
    });
  return withExamples(
    command,
    'wrenn exec cl-4f0 -- ls -la /',
    "wrenn exec cl-4f0 --user nobody --cwd /tmp --env LANG=C -- sh -c 'id; pwd'",
    'tar c . | wrenn exec cl-4f0 -- tar x -C /srv',
    'wrenn exec cl-4f0 --timeout 10s -- make test',
  );
}

export function specOf(words: readonly string[], flags: ProcessFlags, env: Record<string, string>): CommandSpec {
  const [command = '', ...args] = words;
  return { command, args, env, cwd: flags.cwd ?? '', user: flags.user ?? '' };
}

// Runs it on this process's own streams and signals; returns the code to exit with.
export async function execAttached(
  client: MeshClient,
  sandboxId: string,
  spec: CommandSpec,
  flags: ProcessFlags,
): Promise<number> {
  const session = new ExecSession(client, sandboxId);
  const isForwarding = flags.interactive ?? (flags.stdin !== false && isPiped());
  const detach = forwardSignals(session);
  const streams = {
    stdin: isForwarding ? (process.stdin as AsyncIterable<Uint8Array>) : undefined,
    stdout: process.stdout,
    stderr: process.stderr,
  };
  try {
    const timeoutMs = flags.timeout === undefined ? undefined : parseMs(flags.timeout);
    const { exitCode, isTimedOut } = await session.run(spec, streams, timeoutMs);
    return isTimedOut ? exitCodes.timeout : exitCode;
  } finally {
    detach();
  }
}

function forwardSignals(session: ExecSession): () => void {
  let count = 0;
  const listeners = (['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const).map((name) => {
    const forward = () => {
      count += 1;
      if (count > lastInterrupt) {
        process.stderr.write('wrenn: detached; the command may still run in the sandbox\n');
        process.exit(128 + constants.signals[name]);
      }
      session.signal(constants.signals[name]).catch((error: unknown) => {
        process.stderr.write(
          `wrenn: ${name} not delivered: ${error instanceof Error ? error.message : String(error)}\n`,
        );
      });
    };
    process.on(name, forward);
    return () => process.off(name, forward);
  });
  return () => {
    for (const remove of listeners) remove();
  };
}

// Something feeds our stdin: a pipe, a file or a socket; not a terminal and not /dev/null.
function isPiped(): boolean {
  const stat = fstatSync(0, { throwIfNoEntry: false });
  return stat !== undefined && (stat.isFIFO() || stat.isFile() || stat.isSocket());
}
