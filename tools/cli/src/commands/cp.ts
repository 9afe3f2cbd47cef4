import { Command } from 'commander';

import { ExitError, UsageError, exitCodes } from '../exit-codes.ts';
import { Copier, type CopyEvents } from '../files/copy.ts';
import { writeStream } from '../files/local-files.ts';
import { GrpcBytes, RemoteFiles } from '../files/remote-files.ts';
import { parseRemotePath } from '../files/remote-path.ts';
import { SignedBytes } from '../files/signed-bytes.ts';
import { Progress } from '../output/progress.ts';
import { formatBytes } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface CopyFlags extends GatewayOption {
  readonly recursive?: true;
  readonly user?: string;
  readonly signedUrl?: true;
  readonly quiet?: true;
  readonly json?: true;
}

export function cpCommand(context: CommandContext): Command {
  const command = new Command('cp')
    .description('copy files into a sandbox or out of it; each appears whole or not at all')
    .argument('<from>', 'a local path, <id>:<path>, or - for stdin')
    .argument('<to>', 'a local path, <id>:<path>, or - for stdout; what ends with / or is a directory gets it inside')
    .option('-r, --recursive', 'directories with all they hold (links to directories are left out)')
    .option('--user <name>', "whose rights in the sandbox (default: the template's user)")
    .option('--signed-url', 'move the bytes by plain HTTP through the edge, which is faster')
    .option('-q, --quiet', 'no progress')
    .option('--json', 'print what was copied as JSON')
    .addOption(gatewayOption())
    .action((from: string, to: string, flags: CopyFlags) => copy(context, from, to, flags));
  return withExamples(
    command,
    'wrenn cp data.csv cl-4f0:/srv/',
    'wrenn cp cl-4f0:/var/log/app.log .',
    'wrenn cp -r site cl-4f0:/srv/site',
    'wrenn cp --signed-url big.iso cl-4f0:/tmp/big.iso',
    'wrenn cp cl-4f0:/etc/passwd - | wc -l',
  );
}

async function copy(context: CommandContext, from: string, to: string, flags: CopyFlags): Promise<void> {
  const [source, target] = [parseRemotePath(from), parseRemotePath(to)];
  const remote = source ?? target;
  if (!remote || (source && target)) throw new UsageError('one of the two must be in a sandbox: write it <id>:<path>');
  const isRecursive = flags.recursive === true;
  if (isRecursive && (from === '-' || to === '-')) throw new UsageError('-r does not go with a standard stream');
  using client = openClient(context, flags);
  const files = new RemoteFiles(client, await client.findId(remote.sandbox), flags.user);
  const bytes = flags.signedUrl ? new SignedBytes(files) : new GrpcBytes(files);
  const progress =
    process.stderr.isTTY && !flags.quiet ? new Progress((text) => process.stderr.write(text)) : undefined;
  const interrupted = new AbortController();
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => interrupted.abort(new ExitError(code, 'interrupted; nothing of the file is left')));
  }
  const copier = new Copier(files, bytes, eventsFor(context, progress), interrupted.signal);
  const startedAtMs = performance.now();
  try {
    if (source && to === '-') await copier.downloadTo(source.path, (data) => writeStream(process.stdout, data));
    else if (source) await copier.download(source.path, to, isRecursive);
    else if (target && from === '-') await copier.uploadStream(process.stdin, target.path, { name: 'stdin' });
    else if (target) await copier.upload(from, target.path, isRecursive);
  } catch (error) {
    throw interrupted.signal.aborted ? interrupted.signal.reason : error;
  } finally {
    progress?.clear();
  }
  const { fileCount, byteCount, skippedCount } = copier.copied;
  const seconds = (performance.now() - startedAtMs) / 1000;
  if (flags.json) (to === '-' ? context.tell : context.print)(JSON.stringify({ ...copier.copied, seconds }));
  else if (progress) {
    context.tell(
      `${fileCount} file${fileCount === 1 ? '' : 's'}, ${formatBytes(byteCount)} in ${seconds.toFixed(1)} s`,
    );
  }
  if (skippedCount > 0) throw new ExitError(exitCodes.failure, `${skippedCount} left out`);
}

function eventsFor(context: CommandContext, progress: Progress | undefined): CopyEvents {
  return {
    began(name, sizeBytes) {
      progress?.began(name, sizeBytes);
      return (count) => progress?.passed(count);
    },
    skipped(name, why) {
      progress?.clear();
      context.tell(`left out: ${name}: ${why}`);
    },
  };
}
