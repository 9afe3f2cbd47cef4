// What a hop of gRPC costs on this machine, whoever builds it: plain grpc-js, no middleware, a few bytes each way.
// Usage: bare-hop.ts [NEXT_PORT]; answers itself, or passes the call on to NEXT_PORT. Tells its port on stdout.
import { givePrecedence } from '@wrenn/cli/mesh/precedence';
import * as grpc from '@grpc/grpc-js';

import { bareCall, bareClient, bareService } from './bare-client.ts';

await givePrecedence(process.pid, 'commands'); // As what passes commands on in a mesh.
const [nextPort] = process.argv.slice(2);
const next = nextPort === undefined ? undefined : bareClient(Number(nextPort));
const server = new grpc.Server();
server.addService(bareService, {
  pass(call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) {
    if (next) bareCall(next, call.request).then((bytes) => answer(null, bytes), answer);
    else answer(null, call.request);
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${port}\n`);
});
