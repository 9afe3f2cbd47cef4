// The command line: each command is in src/commands; this joins them and turns ends into exit codes.
import { Command, CommanderError } from 'commander';

import { ConfigError } from '@wrenn/kit/config';

import { accessCommand } from './commands/access.ts';
import type { CommandContext } from './commands/context.ts';
import { cpCommand } from './commands/cp.ts';
import { createCommand } from './commands/create.ts';
import { demoCommand } from './commands/demo.ts';
import { doctorCommand } from './commands/doctor.ts';
import { downCommand } from './commands/down.ts';
import { execCommand } from './commands/exec.ts';
import { filesCommand } from './commands/files.ts';
import { forkCommand } from './commands/fork.ts';
import { inspectCommand } from './commands/inspect.ts';
import { logLevelCommand } from './commands/log-level.ts';
import { logsCommand } from './commands/logs.ts';
import { lsCommand } from './commands/ls.ts';
import { pauseCommand } from './commands/pause.ts';
import { portsCommand } from './commands/ports.ts';
import { quotaCommand } from './commands/quota.ts';
import { resumeCommand } from './commands/resume.ts';
import { rmCommand } from './commands/rm.ts';
import { runCommand } from './commands/run.ts';
import { shellCommand } from './commands/shell.ts';
import { snapshotCommand } from './commands/snapshot.ts';
import { statsCommand } from './commands/stats.ts';
import { traceCommand } from './commands/trace.ts';
import { upCommand } from './commands/up.ts';
import { urlCommand } from './commands/url.ts';
import { type CliConfig, readCliConfig } from './config.ts';
import { describeError, exitCodeOf, exitCodes } from './exit-codes.ts';

const commands = [
  ...[upCommand, downCommand, doctorCommand, demoCommand],
  ...[createCommand, runCommand, lsCommand, inspectCommand, execCommand, shellCommand],
  ...[rmCommand, logsCommand, traceCommand, quotaCommand],
  ...[pauseCommand, resumeCommand, forkCommand, snapshotCommand],
  ...[cpCommand, filesCommand, urlCommand, portsCommand, accessCommand],
  ...[statsCommand, logLevelCommand],
];

process.exit(await runCli(process.argv, process.env));

async function runCli(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  // A reader that leaves (`wrenn ls | head -1`) is no failure of ours; who must know is told by its write.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  let config: CliConfig | undefined;
  let exitCode: number = exitCodes.ok;
  try {
    config = readCliConfig(env);
    await programFor(config, env).parseAsync(argv);
  } catch (error) {
    exitCode = report(error, gatewayIn(argv) ?? config?.gateway ?? '');
  }
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  return exitCode;
}

function programFor(config: CliConfig, env: NodeJS.ProcessEnv): Command {
  const context: CommandContext = {
    config,
    env,
    print: (line) => void process.stdout.write(`${line}\n`),
    tell: (line) => void process.stderr.write(`${line}\n`),
  };
  const program = new Command('wrenn')
    .description('Sandboxes: microVMs with their own kernel, disk and network, made in a blink.')
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage, 69 mesh not reachable, 124 timed out;')
    .addHelpText('after', '`exec`, `run` and `shell` exit with the code of what they ran.');
  for (const make of commands) program.addCommand(make(context));
  settle(program);
  return program;
}

// How a command and those below it end and help.
function settle(command: Command, parents = 'wrenn'): void {
  command.exitOverride().showHelpAfterError(`(see \`${parents} --help\`)`);
  for (const child of command.commands) settle(child, `${parents} ${child.name()}`);
}

function report(error: unknown, gateway: string): number {
  // Commander has written what was wrong; asking for help is no error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  const text = describeError(error, gateway);
  if (text !== '') process.stderr.write(`wrenn: ${text}\n`);
  return error instanceof ConfigError ? exitCodes.usage : exitCodeOf(error);
}

// What was given on the command line, to name it in the message that nothing answers there.
function gatewayIn(argv: readonly string[]): string | undefined {
  const at = argv.findIndex((arg) => arg === '--gateway' || arg.startsWith('--gateway='));
  if (at < 0) return undefined;
  return argv[at]?.split('=')[1] ?? argv[at + 1];
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()));
}
