// The very code of the edge, in a process of the bench's own: before guests at the addresses that `addressOf` says.
import { GuestConnections } from '@wrenn/edge-proxy/adapters/guest-connections';
import { GuestDialer } from '@wrenn/edge-proxy/adapters/guest-dialer';
import type { Admit } from '@wrenn/edge-proxy/exchange';
import { EdgeServer } from '@wrenn/edge-proxy/server';
import type { SandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';

const everywhere = { network: '0.0.0.0', prefixLength: 0 };

// Returns its port on loopback.
export async function serveEdge(addressOf: (id: SandboxId) => string): Promise<number> {
  const resolve = async (id: SandboxId) => ({ hostId: '', address: addressOf(id) });
  const dialer = new GuestDialer({ resolve, forget: () => undefined }, everywhere);
  const guests = new GuestConnections({ resolve, dial: dialer.dial.bind(dialer) });
  const admit: Admit = async (request, route) => ({ request, route, toClient: [] });
  const edge = new EdgeServer({ guests, admit, domain: 'localhost', log: openLog('edge-here', 'warn') });
  return edge.listen('127.0.0.1:0');
}
