// The program of a fast server on this machine, and of the very code of the edge before it. Tells both ports on stdout.
import { type AddressInfo, type Server, connect, createServer } from 'node:net';

import { openLog } from '@wrenn/kit/log';

import { EdgeServer } from '../../../services/edge-proxy/src/server.ts';
import { serveFast } from './fast-server.ts';

const fast: Server = serveFast(createServer({ noDelay: true }));
await new Promise<void>((resolve) => fast.listen(0, '127.0.0.1', resolve));
const { port } = fast.address() as AddressInfo;
const edge = new EdgeServer({
  dial: async () => connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true }),
  domain: 'localhost',
  log: openLog('edge-host', 'warn'),
});
process.stdout.write(`${JSON.stringify({ fastPort: port, edgePort: await edge.listen('127.0.0.1:0') })}\n`);
