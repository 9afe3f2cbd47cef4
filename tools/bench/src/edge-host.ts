// The program of a fast server on this machine, and of the code of the edge before it. Tells both ports on stdout.
import { type AddressInfo, createServer } from 'node:net';

import { serveEdge } from './edge-here.ts';
import { serveFast } from './fast-server.ts';

const fast = serveFast(createServer({ noDelay: true }));
await new Promise<void>((resolve) => fast.listen(0, '127.0.0.1', resolve));
const { port } = fast.address() as AddressInfo;
process.stdout.write(`${JSON.stringify({ fastPort: port, edgePort: await serveEdge(() => '127.0.0.1') })}\n`);
