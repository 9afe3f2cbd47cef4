import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';

import { type MeshClient, besideOf } from '../client.ts';
import { UsageError } from '../exit-codes.ts';
import { RemoteFiles } from '../files/remote-files.ts';
import { requireRemotePath } from '../files/remote-path.ts';
import { signUrl } from '../files/signed-bytes.ts';
import { edgeOffset } from '../mesh/options.ts';
import { parseMs } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';
import { parsePort } from './create.ts';
import { portUrls } from './port-urls.ts';

interface UrlFlags extends GatewayOption {
  readonly port?: string;
  readonly write?: true;
  readonly ttl?: string;
  readonly user?: string;
  readonly json?: true;
}

export function urlCommand(context: CommandContext): Command {
  const command = new Command('url')
    .description('print an URL of one file, for anybody who has it, or of a port of a sandbox')
    .argument('<id:path>', 'sandbox id (or enough of it) and a path in it; with --port the id alone')
    .option('--port <n>', 'the URL by path, and the one by host name, of what is served at that port')
    .option('--write', 'to put the file (POST) instead of fetching it (GET)')
    .option('--ttl <time>', 'how long it works, 1s to 24h (default: 15m)')
    .option('--user <name>', "whose rights in the sandbox (default: the template's user)")
    .option('--json', 'print it as JSON: URL and time of expiry, or both URLs')
    .addOption(gatewayOption())
    .action(async (text: string, flags: UrlFlags) => {
      const print =
        flags.port === undefined ? await fileUrl(context, text, flags) : await portUrl(context, text, flags);
      context.print(print);
    });
  return withExamples(
    command,
    'curl -O "$(wrenn url cl-4f0:/srv/report.pdf)"',
    'curl --data-binary @data.csv "$(wrenn url --write --ttl 1h cl-4f0:/srv/data.csv)"',
    'wrenn url cl-4f0 --port 8000',
  );
}

async function fileUrl(context: CommandContext, text: string, flags: UrlFlags): Promise<string> {
  const { sandbox, path } = requireRemotePath(text);
  using client = openClient(context, flags);
  const files = new RemoteFiles(client, await client.findId(sandbox), flags.user);
  const operation = flags.write ? UrlOperation.WRITE : UrlOperation.READ;
  const { url, expiresAtMs } = await signUrl(files, path, operation, parseMs(flags.ttl ?? '15m'));
  return flags.json ? JSON.stringify({ url, expiresAt: new Date(expiresAtMs).toISOString() }) : url;
}

async function portUrl(context: CommandContext, text: string, flags: UrlFlags): Promise<string> {
  if (flags.write || flags.ttl !== undefined || flags.user !== undefined || text.includes(':')) {
    throw new UsageError('--port goes with the id of a sandbox alone');
  }
  const port = parsePort(flags.port ?? '');
  using client = openClient(context, flags);
  const sandboxId = await client.findId(text);
  const token = await tokenFor(client, sandboxId, port);
  const edgeUrl = context.config.edgeUrl ?? `http://${besideOf(client.gateway, edgeOffset)}`;
  const urls = portUrls({ edgeUrl, domain: context.config.domain, sandboxId, port, ...(token && { token }) });
  return flags.json ? JSON.stringify(urls) : `${urls.byPath}\n${urls.byHost}`;
}

async function tokenFor(client: MeshClient, sandboxId: string, port: number): Promise<string | undefined> {
  const { access } = await client.sandboxes.getAccess({ sandboxId }, inMs(30_000));
  return access?.secure && !access.publicPorts.includes(port) ? access.trafficToken : undefined;
}
