// What the commands about files and ports refuse before they ask anybody: nothing listens at the gateway named here.
import { type Command, CommanderError } from 'commander';
import { expect, test } from 'vitest';

import { UsageError } from '../exit-codes.ts';
import { accessCommand } from './access.ts';
import type { CommandContext } from './context.ts';
import { cpCommand } from './cp.ts';
import { filesCommand } from './files.ts';
import { portsCommand } from './ports.ts';
import { urlCommand } from './url.ts';

const context: CommandContext = {
  config: {
    gateway: '127.0.0.1:1',
    domain: 'localhost',
    runDir: '/run/wrenn',
    dataDir: '/var/lib/wrenn',
    databaseUrl: undefined,
  },
  env: {},
  print: () => undefined,
  tell: () => undefined,
};
const commands = { cp: cpCommand, files: filesCommand, url: urlCommand, ports: portsCommand, access: accessCommand };
const id = `cl-${'0'.repeat(25)}`;

function quiet(command: Command): Command {
  command.exitOverride().configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  for (const child of command.commands) quiet(child);
  return command;
}

test.each([
  ['cp', ['/etc/passwd', '/tmp/x'], /one of the two must be in a sandbox/],
  ['cp', [`${id}:/a`, `${id}:/b`], /one of the two must be in a sandbox/],
  ['cp', [`${id}:`, '/tmp/x'], /names no path/],
  ['cp', ['-r', '-', `${id}:/x`], /-r does not go with a standard stream/],
  ['cp', ['-r', `${id}:/x`, '-'], /-r does not go with a standard stream/],
  ['cp', ['/no/such', `${id}:/srv/`], /there is no such file/],
  ['cp', ['/etc', `${id}:/srv/`], /is a directory; copy it with -r/],
  ['files', ['ls', '/etc'], /is no path in a sandbox; write it like/],
  ['files', ['ls', `${id}:/etc`, '--depth', '65'], /--depth must be 1 to 64, not "65"/],
  ['files', ['ls', `${id}:/etc`, '--depth', 'all'], /--depth must be 1 to 64/],
  ['files', ['mv', `${id}:/a`, 'cl-other:/b'], /both paths must be in one sandbox/],
  ['url', [`${id}:/a`, '--ttl', 'soon'], /"soon" is no time/],
  ['url', ['/a'], /is no path in a sandbox/],
  ['url', [`${id}:/a`, '--port', '80'], /--port goes with the id of a sandbox alone/],
  ['url', [id, '--port', '80', '--ttl', '1m'], /--port goes with the id of a sandbox alone/],
  ['url', [id, '--port', '0'], /a port must be 1 to 65535/],
  ['access', [id, '--open', '--secure'], /--open does not go with --secure/],
  ['access', [id, '--open', '--public-port', '80'], /--public-port goes with --secure/],
] as const)('%s %j is wrong usage', async (name, args, message) => {
  const error: unknown = await quiet(commands[name](context))
    .parseAsync([...args], { from: 'user' })
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(error).toBeInstanceOf(UsageError);
  expect((error as Error).message).toMatch(message);
});

test.each([
  ['cp', ['/only/one']],
  ['cp', ['--recursively', '/a', `${id}:/a`]],
  ['files', ['frobnicate']],
  ['files', ['ls']],
  ['url', []],
  ['ports', []],
  ['access', []],
] as const)('%s %j is refused by what reads the command line', async (name, args) => {
  const parsed = quiet(commands[name](context)).parseAsync([...args], { from: 'user' });
  await expect(parsed).rejects.toBeInstanceOf(CommanderError);
});

test('each has help with examples', () => {
  const all = Object.values(commands).flatMap((make) => {
    const command = make(context);
    return [command, ...command.commands];
  });
  expect(all.map((command) => command.name())).toHaveLength(11);
  for (const command of all) {
    let text = '';
    command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
    expect(text).toMatch(/Examples:\n {2}\S/);
    expect(text).toContain(command.description());
  }
});
