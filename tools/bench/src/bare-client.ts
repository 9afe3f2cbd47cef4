// What bare-hop.ts serves, and a client of it: bytes that nobody looks into.
import * as grpc from '@grpc/grpc-js';

const asIs = (bytes: Buffer) => bytes;
const path = '/wrenn.bench.Bare/Pass';

export const bareService: grpc.ServiceDefinition = {
  pass: {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  },
};

export function bareClient(port: number): grpc.Client {
  return new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
}

export function bareCall(client: grpc.Client, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, asIs, asIs, bytes, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
}
