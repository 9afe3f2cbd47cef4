import { toJson } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { Command } from 'commander';

import {
  FileChangeSchema,
  FileChangeType,
  type FileEntry,
  FileEntrySchema,
  FileType,
} from '@wrenn/proto/wrenn/v1/filesystem';

import { UsageError } from '../exit-codes.ts';
import { RemoteFiles } from '../files/remote-files.ts';
import { parseRemotePath, relativePath, requireRemotePath } from '../files/remote-path.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatBytes, parseCount } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface FileFlags extends GatewayOption {
  readonly user?: string;
  readonly json?: true;
  readonly depth?: string;
  readonly recursive?: true;
}

export function filesCommand(context: CommandContext): Command {
  const files = new Command('files').description('look at, make, move, remove and watch files in a sandbox');
  for (const make of [lsCommand, statCommand, mkdirCommand, rmCommand, mvCommand, watchCommand]) {
    files.addCommand(make(context));
  }
  return withExamples(
    files,
    'wrenn files ls cl-4f0:/var/log',
    'wrenn files stat cl-4f0:/etc/passwd --json',
    'wrenn files mv cl-4f0:/tmp/a /tmp/b',
    'wrenn files watch cl-4f0:/srv -r',
  );
}

// A command that does one thing at a path in a sandbox.
function command(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument('<id:path>', 'sandbox id (or enough of it) and a path in it')
    .option('--user <name>', "whose rights in the sandbox (default: the template's user)")
    .addOption(gatewayOption());
}

async function withFiles(
  context: CommandContext,
  text: string,
  flags: FileFlags,
  work: (files: RemoteFiles, path: string) => Promise<void>,
): Promise<void> {
  const { sandbox, path } = requireRemotePath(text);
  using client = openClient(context, flags);
  await work(new RemoteFiles(client, await client.findId(sandbox), flags.user), path);
}

function lsCommand(context: CommandContext): Command {
  const ls = command('ls', 'list a directory')
    .option('--depth <n>', 'levels to descend, 1 to 64 (default: 1)')
    .option('--json', 'print the entries as JSON, one a line')
    .action((text: string, flags: FileFlags) =>
      withFiles(context, text, flags, async (files, path) => {
        const depth = parseCount(flags.depth ?? '1', '--depth', 1, 64);
        const entries = await files.list(path, depth);
        if (flags.json) for (const entry of entries) context.print(jsonOf(entry));
        else if (entries.length > 0) context.print(entryTable(entries, path));
      }),
    );
  return withExamples(ls, 'wrenn files ls cl-4f0:/srv', 'wrenn files ls cl-4f0:. --depth 3 --json | jq -r .path');
}

function statCommand(context: CommandContext): Command {
  const stat = command('stat', 'describe one file, directory or link')
    .option('--json', 'as JSON')
    .action((text: string, flags: FileFlags) =>
      withFiles(context, text, flags, async (files, path) => {
        const entry = await files.stat(path);
        context.print(flags.json ? jsonOf(entry) : describe(entry));
      }),
    );
  return withExamples(stat, 'wrenn files stat cl-4f0:/etc/hostname');
}

function mkdirCommand(context: CommandContext): Command {
  const mkdir = command('mkdir', 'make a directory and its missing parents').action((text: string, flags: FileFlags) =>
    withFiles(context, text, flags, async (files, path) => context.print(printable((await files.makeDir(path)).path))),
  );
  return withExamples(mkdir, 'wrenn files mkdir cl-4f0:/srv/a/b');
}

function rmCommand(context: CommandContext): Command {
  const rm = command('rm', 'remove a file, or a directory with all it holds; nothing there is fine too').action(
    (text: string, flags: FileFlags) => withFiles(context, text, flags, (files, path) => files.remove(path)),
  );
  return withExamples(rm, 'wrenn files rm cl-4f0:/tmp/old');
}

function mvCommand(context: CommandContext): Command {
  const mv = command('mv', 'rename within the sandbox, replacing a file at the destination')
    .argument('<destination>', 'a path in the same sandbox')
    .action((text: string, to: string, flags: FileFlags) =>
      withFiles(context, text, flags, async (files, path) => {
        const target = parseRemotePath(to);
        if (target && target.sandbox !== requireRemotePath(text).sandbox) {
          throw new UsageError('both paths must be in one sandbox; copy with `wrenn cp`');
        }
        context.print(printable((await files.move(path, target?.path ?? to)).path));
      }),
    );
  return withExamples(mv, 'wrenn files mv cl-4f0:/tmp/a /srv/b');
}

function watchCommand(context: CommandContext): Command {
  const watch = command('watch', 'print every change in a directory until interrupted')
    .option('-r, --recursive', 'also everything below it')
    .option('--json', 'print the changes as JSON, one a line')
    .action((text: string, flags: FileFlags) =>
      withFiles(context, text, flags, async ({ client, sandboxId, user }, path) => {
        const request = { sandboxId, path, user, isRecursive: flags.recursive === true };
        for await (const { part } of client.files.watch(request)) {
          if (part.case === 'started') context.tell(`watching ${printable(path)}`);
          if (part.case !== 'change') continue;
          const { type, path: changed } = part.value;
          if (flags.json) context.print(JSON.stringify(toJson(FileChangeSchema, part.value)));
          else context.print(`${changeNames[type] ?? type}  ${printable(changed)}`);
        }
      }),
    );
  return withExamples(watch, 'wrenn files watch cl-4f0:/srv', 'wrenn files watch cl-4f0:/srv -r --json');
}

const changeNames: Partial<Record<FileChangeType, string>> = {
  [FileChangeType.CREATED]: 'created',
  [FileChangeType.WRITTEN]: 'written',
  [FileChangeType.REMOVED]: 'removed',
  [FileChangeType.RENAMED]: 'renamed',
  [FileChangeType.MODE_CHANGED]: 'mode changed',
};

const typeNames: Partial<Record<FileType, string>> = {
  [FileType.FILE]: 'file',
  [FileType.DIRECTORY]: 'directory',
  [FileType.SYMLINK]: 'symlink',
};

const jsonOf = (entry: FileEntry) => JSON.stringify(toJson(FileEntrySchema, entry));

export function entryTable(entries: readonly FileEntry[], directory: string): string {
  const rows = entries.map((entry) => [
    modeText(entry),
    printable(entry.owner),
    printable(entry.group),
    formatBytes(entry.sizeBytes),
    modifiedText(entry),
    printable(relativePath(directory, entry.path) ?? entry.path) + linkText(entry),
  ]);
  return table(['MODE', 'OWNER', 'GROUP', 'SIZE', 'MODIFIED', 'NAME'], rows);
}

function describe(entry: FileEntry): string {
  const rows: [string, string][] = [
    ['path', printable(entry.path) + linkText(entry)],
    ['type', typeNames[entry.type] ?? 'special'],
    ['size', `${entry.sizeBytes} (${formatBytes(entry.sizeBytes)})`],
    ['mode', `${modeText(entry)} (${entry.mode.toString(8).padStart(4, '0')})`],
    ['owner', `${printable(entry.owner)}:${printable(entry.group)}`],
    ['modified', modifiedText(entry)],
  ];
  return rows.map(([name, value]) => `${name.padEnd(10)}${value}`).join('\n');
}

const linkText = ({ symlinkTarget }: FileEntry) => (symlinkTarget === '' ? '' : ` -> ${printable(symlinkTarget)}`);

function modifiedText({ modifiedAt }: FileEntry): string {
  return modifiedAt
    ? timestampDate(modifiedAt)
        .toISOString()
        .replace(/\.\d+Z$/, 'Z')
    : '-';
}

// As `ls -l` shows it, set-id and sticky bits included.
export function modeText({ type, mode }: Pick<FileEntry, 'type' | 'mode'>): string {
  const kinds: Partial<Record<FileType, string>> = {
    [FileType.FILE]: '-',
    [FileType.DIRECTORY]: 'd',
    [FileType.SYMLINK]: 'l',
  };
  const special = [mode & 0o4000, mode & 0o2000, mode & 0o1000];
  const triads = [6, 3, 0].map((shift, index) => {
    const bits = mode >> shift;
    const mark = index === 2 ? 't' : 's';
    const last = special[index] ? (bits & 1 ? mark : mark.toUpperCase()) : bits & 1 ? 'x' : '-';
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${last}`;
  });
  return (kinds[type] ?? '?') + triads.join('');
}
