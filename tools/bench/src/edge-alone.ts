// The edge's own proxy code without a mesh: every sandbox is the server at the port given, on this machine. Prints
// the port that it serves.
import { GuestConnections } from '@wrenn/edge-proxy/adapters/guest-connections';
import { GuestDialer } from '@wrenn/edge-proxy/adapters/guest-dialer';
import { EdgeServer } from '@wrenn/edge-proxy/server';
import { openLog } from '@wrenn/kit/log';

const host = '127.0.0.1';
const log = openLog('edge-alone', 'silent');
const addresses = { resolve: async () => host, forget: () => undefined };
const dialer = new GuestDialer(addresses, { network: host, prefixLength: 32 });
const guests = new GuestConnections({
  resolve: addresses.resolve,
  dial: (id, port, signal) => dialer.dial(id, port, signal),
});
const server = new EdgeServer({
  guests,
  admit: async (request, route) => ({ request, route, toClient: [] }),
  domain: 'localhost',
  log,
});
process.stdout.write(`${await server.listen(`${host}:0`)}\n`);
