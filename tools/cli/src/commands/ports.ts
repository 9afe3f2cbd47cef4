import { Command } from 'commander';

import type { MeshClient } from '../client.ts';
import { table } from '../output/table.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface PortFlags extends GatewayOption {
  readonly watch?: true;
  readonly json?: true;
}

interface PortChange {
  readonly change: 'opened' | 'closed';
  readonly port: number;
  readonly isLoopbackOnly: boolean;
}

// The guest tells at once what is served already; what comes later than this is a change.
const quietMs = 1000;

export function portsCommand(context: CommandContext): Command {
  const command = new Command('ports')
    .description('list the ports that are served in a sandbox')
    .argument('<id>', 'sandbox id, or enough of it')
    .option('--watch', 'go on with every change until interrupted')
    .option('--json', 'print them as JSON, one a line')
    .addOption(gatewayOption())
    .action(async (id: string, flags: PortFlags) => {
      using client = openClient(context, flags);
      const sandboxId = await client.findId(id);
      if (!flags.watch) {
        const ports = await portsNow(client, sandboxId);
        if (flags.json) for (const port of ports) context.print(JSON.stringify(port));
        else if (ports.length === 0) context.tell('no port is served');
        else context.print(portTable(ports));
        return;
      }
      for await (const change of changesOf(client, sandboxId)) {
        const where = change.isLoopbackOnly ? '  loopback' : '';
        context.print(flags.json ? JSON.stringify(change) : `${change.change}  ${change.port}${where}`);
      }
    });
  return withExamples(command, 'wrenn ports cl-4f0', 'wrenn ports cl-4f0 --watch --json');
}

async function* changesOf(client: MeshClient, sandboxId: string, signal?: AbortSignal): AsyncGenerator<PortChange> {
  for await (const { change } of client.ports.watch({ sandboxId }, signal ? { signal } : {})) {
    if (change.case) {
      const { port, isLoopbackOnly } = change.value;
      yield { change: change.case, port, isLoopbackOnly };
    }
  }
}

async function portsNow(client: MeshClient, sandboxId: string): Promise<Omit<PortChange, 'change'>[]> {
  const served = new Map<number, Omit<PortChange, 'change'>>();
  const quiet = new AbortController();
  let timer = setTimeout(() => quiet.abort(), quietMs);
  try {
    for await (const { change, ...port } of changesOf(client, sandboxId, quiet.signal)) {
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), quietMs);
      if (change === 'opened') served.set(port.port, port);
      else served.delete(port.port);
    }
  } catch (error) {
    if (!quiet.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
  return [...served.values()].sort((a, b) => a.port - b.port);
}

function portTable(ports: readonly Omit<PortChange, 'change'>[]): string {
  const rows = ports.map(({ port, isLoopbackOnly }) => [
    String(port),
    isLoopbackOnly ? 'loopback, forwarded by the agent' : 'all addresses',
  ]);
  return table(['PORT', 'BOUND TO'], rows);
}
