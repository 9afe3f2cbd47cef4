import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import type { SandboxAccess } from '@wrenn/proto/wrenn/v1/sandbox';

import { UsageError } from '../exit-codes.ts';
import {
  type CommandContext,
  type GatewayOption,
  collect,
  gatewayOption,
  openClient,
  withExamples,
} from './context.ts';
import { type PortAccessFlags, portAccessOf } from './create.ts';

interface AccessFlags extends GatewayOption, PortAccessFlags {
  readonly open?: true;
  readonly json?: true;
}

export function accessCommand(context: CommandContext): Command {
  const command = new Command('access')
    .description('show who reaches the ports of a sandbox and its tokens, or set it')
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--secure', 'from now on only who shows its traffic token')
    .option('--public-port <n>', 'with --secure: a port for everybody all the same; may be repeated', collect)
    .option('--open', 'from now on everybody')
    .option('--json', 'print it as JSON')
    .addOption(gatewayOption())
    .action(async (id: string, flags: AccessFlags) => {
      if (flags.open && flags.secure) throw new UsageError('--open does not go with --secure');
      const wanted = portAccessOf(flags);
      using client = openClient(context, flags);
      const sandboxId = await client.findId(id);
      if (flags.secure || flags.open) await client.sandboxes.setAccess({ sandboxId, ...wanted }, inMs(30_000));
      const { access } = await client.sandboxes.getAccess({ sandboxId }, inMs(30_000));
      if (!access) throw new Error('the gateway answered without access');
      context.print(flags.json ? JSON.stringify(plain(access)) : describe(access));
    });
  return withExamples(
    command,
    'wrenn access cl-4f0',
    'wrenn access cl-4f0 --secure --public-port 8000',
    'token=$(wrenn access cl-4f0 --json | jq -r .trafficToken)',
  );
}

function plain({ secure, publicPorts, trafficToken, accessToken }: SandboxAccess) {
  return { secure, publicPorts, trafficToken, accessToken };
}

function describe({ secure, publicPorts, trafficToken, accessToken }: SandboxAccess): string {
  const rows = [
    ['ports', secure ? 'for who shows the traffic token' : 'open to everybody'],
    ['public', secure ? publicPorts.join(', ') : ''],
    ['traffic token', `${trafficToken}  (X-Wrenn-Token: opens its ports)`],
    ['access token', accessToken && `${accessToken}  (X-Access-Token: opens its agent, as root)`],
  ] as const;
  return rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name.padEnd(15)}${value}`)
    .join('\n');
}
