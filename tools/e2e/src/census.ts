// Which TCP connections a mesh has open, who dialled whom, and how many bytes each has carried so far.
import { runProgram } from '@wrenn/kit/run-program';

import type { Guest } from './guest.ts';
import type { TestMesh } from './mesh.ts';

export interface Connection {
  readonly id: string; // Both ends: no two connections that are open at once have the same.
  readonly way: string; // Like `gateway > vm-runtime`, or `edge-proxy > guest:8000`.
  readonly byteCount: number; // Both ways.
}

const services = [
  'network',
  'snapshot-store',
  'scheduler',
  'vm-runtime',
  'gateway',
  'gateway-bulk',
  'edge-proxy',
  'trace-keeper',
] as const;

// Each connection once, as its caller sees it; those of this process are the client's.
export async function takeCensus({ mesh }: TestMesh, guestAddress: string): Promise<Connection[]> {
  const callers = new Map<number, string>([[process.pid, 'client']]);
  for (const name of services) {
    const { running } = mesh.service(name);
    if (running) callers.set(running.pid, name);
  }
  const { addresses } = mesh;
  const callees = new Map([
    [addresses.gateway, 'gateway'],
    [addresses.gatewayBulk, 'gateway-bulk'],
    [addresses.scheduler, 'scheduler'],
    [addresses.vmRuntime, 'vm-runtime'],
    [addresses.vmRuntimeBulk, 'vm-runtime-bulk'],
    [addresses.edgeProxy, 'edge-proxy'],
    [addresses.traceIntake, 'trace-keeper'],
  ]);
  const table = await runProgram('ss', ['-tnipHO', 'state', 'established']);
  return table.split('\n').flatMap((line) => {
    const [, , local = '', peer = ''] = line.split(/\s+/);
    const caller = callers.get(Number(/pid=(\d+)/.exec(line)?.[1]));
    const callee =
      callees.get(peer) ?? (peer.startsWith(`${guestAddress}:`) ? peer.replace(guestAddress, 'guest') : '');
    if (caller === undefined || callee === '') return [];
    const byteCount = countIn(line, 'bytes_sent') + countIn(line, 'bytes_received');
    return [{ id: `${local} ${peer}`, way: `${caller} > ${callee}`, byteCount }];
  });
}

function countIn(line: string, name: string): number {
  return Number(new RegExp(`\\b${name}:(\\d+)`).exec(line)?.[1] ?? 0);
}

// How much each connection has carried between two looks.
export function carriedBetween(before: readonly Connection[], after: readonly Connection[]): Connection[] {
  const counts = new Map(before.map(({ id, byteCount }) => [id, byteCount]));
  return after.map((each) => ({ ...each, byteCount: each.byteCount - (counts.get(each.id) ?? 0) }));
}

export async function censusOf(mesh: TestMesh, guest: Guest): Promise<() => Promise<Connection[]>> {
  const address = await guest.address();
  return () => takeCensus(mesh, address);
}
