// What a hop costs by the packages that the mesh stands on: nice-grpc and protobuf-es on grpc-js, with the messages of
// an exec, and nothing of the mesh's own: no deadline, no error of a kind, no span.
// Usage: plain-hop.ts [NEXT_PORT]; answers itself, or passes the call on to NEXT_PORT. Tells its port on stdout.
import { givePrecedence } from '@wrenn/cli/mesh/precedence';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { createServer } from 'nice-grpc';

import { PlainClient, plainDefinition } from './plain-client.ts';

await givePrecedence(process.pid, 'commands'); // As what passes commands on in a mesh.
const [nextPort] = process.argv.slice(2);
const next = nextPort === undefined ? undefined : new PlainClient(Number(nextPort));
const server = createServer();
const answer = { exitCode: 0, duration: { seconds: 0n, nanos: 1_000_000 } };
const handlers = partialHandlers(ProcessService, {
  exec: async ({ sandboxId }) => (next ? next.runTrue(sandboxId) : answer),
});
server.add(plainDefinition, handlers as never);
const port = await server.listen('127.0.0.1:0');
process.stdout.write(`${port}\n`);
