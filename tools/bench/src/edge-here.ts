// The very code of the edge, in a process of the bench's own: before whatever `dial` connects to.
import { type Socket, connect } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';

import { GuestConnections } from '../../../services/edge-proxy/src/adapters/guest-connections.ts';
import type { RequestHead } from '../../../services/edge-proxy/src/domain/request-head.ts';
import type { GuestRoute } from '../../../services/edge-proxy/src/domain/route.ts';
import { EdgeServer } from '../../../services/edge-proxy/src/server.ts';

export interface Place {
  readonly host: string;
  readonly port: number;
}

// Returns its port on loopback.
export async function serveEdge(placeOf: (id: SandboxId, port: number) => Place): Promise<number> {
  const dial = async (id: SandboxId, port: number): Promise<Socket> =>
    connect({ ...placeOf(id, port), noDelay: true, allowHalfOpen: true });
  const guests = new GuestConnections({ resolve: async (id) => placeOf(id, 0).host, dial });
  const log = openLog('edge-here', 'warn');
  const admit = async (request: RequestHead, route: GuestRoute) => ({ request, route, toClient: [] });
  const edge = new EdgeServer({ guests, admit, domain: 'localhost', log });
  return edge.listen('127.0.0.1:0');
}
