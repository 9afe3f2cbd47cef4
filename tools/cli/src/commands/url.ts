import { Command } from 'commander';

import { UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';

import { RemoteFiles } from '../files/remote-files.ts';
import { requireRemotePath } from '../files/remote-path.ts';
import { signUrl } from '../files/signed-bytes.ts';
import { parseMs } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface UrlFlags extends GatewayOption {
  readonly write?: true;
  readonly ttl?: string;
  readonly user?: string;
  readonly json?: true;
}

export function urlCommand(context: CommandContext): Command {
  const command = new Command('url')
    .description('print an URL by which anybody who has it can fetch one file, or put it')
    .argument('<id:path>', 'sandbox id (or enough of it) and a path in it')
    .option('--write', 'to put the file (POST) instead of fetching it (GET)')
    .option('--ttl <time>', 'how long it works, 1s to 24h (default: 15m)')
    .option('--user <name>', "whose rights in the sandbox (default: the template's user)")
    .option('--json', 'print URL and time of expiry as JSON')
    .addOption(gatewayOption())
    .action(async (text: string, flags: UrlFlags) => {
      const { sandbox, path } = requireRemotePath(text);
      using client = openClient(context, flags);
      const files = new RemoteFiles(client, await client.findId(sandbox), flags.user);
      const operation = flags.write ? UrlOperation.WRITE : UrlOperation.READ;
      const { url, expiresAtMs } = await signUrl(files, path, operation, parseMs(flags.ttl ?? '15m'));
      const expiresAt = new Date(expiresAtMs).toISOString();
      context.print(flags.json ? JSON.stringify({ url, expiresAt }) : url);
    });
  return withExamples(
    command,
    'curl -O "$(wrenn url cl-4f0:/srv/report.pdf)"',
    'curl --data-binary @data.csv "$(wrenn url --write --ttl 1h cl-4f0:/srv/data.csv)"',
  );
}
