// One gRPC call as a client in any language makes it, bytes on HTTP/2, and what its trailers say: before any
// code of ours has read them.
import { type MessageInitShape, create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { Status } from 'nice-grpc-common';
import { type IncomingHttpHeaders, connect } from 'node:http2';

export interface Verdict {
  readonly code: string; // Name of the gRPC status; `cut` for a call that ended without one.
  readonly reason: string; // Of google.rpc.ErrorInfo; empty without one.
  readonly meta: Readonly<Record<string, string>>;
  readonly message: string;
}

type Input<M extends DescMethod> = MessageInitShape<M['input']>;

// How the callee ends a call that sends these messages and then nothing more.
export function verdictOf<M extends DescMethod>(address: string, method: M, ...messages: Input<M>[]): Promise<Verdict> {
  const input: DescMessage = method.input;
  const bodies = messages.map((message) => toBinary(input, create(input, message)));
  return verdictOfBytes(address, `/${method.parent.typeName}/${method.name}`, Buffer.concat(bodies.map(framed)));
}

// Five bytes before each message: whether it is compressed, and its length.
export function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

export async function verdictOfBytes(
  address: string,
  path: string,
  body: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): Promise<Verdict> {
  const session = connect(`http://${address}`);
  try {
    return await new Promise<Verdict>((resolve, reject) => {
      session.on('error', reject);
      const own = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
      const call = session.request({ ...own, 'grpc-timeout': '20S', ...headers });
      const read = (received: IncomingHttpHeaders) => {
        if (received['grpc-status'] !== undefined) resolve(verdictIn(received));
      };
      call.on('response', read).on('trailers', read).resume();
      const cut = (why: string) => resolve({ code: 'cut', reason: '', meta: {}, message: why });
      call.on('error', ({ message }: Error) => cut(message)).on('close', () => cut('closed'));
      call.end(body);
    });
  } finally {
    session.destroy();
  }
}

function verdictIn(trailers: IncomingHttpHeaders): Verdict {
  const code = Status[Number(trailers['grpc-status'])] ?? 'none';
  const message = decodeURIComponent(String(trailers['grpc-message'] ?? ''));
  const details = Buffer.from(String(trailers['grpc-status-details-bin'] ?? ''), 'base64');
  for (const detail of fromBinary(StatusSchema, details).details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info) return { code, message, reason: info.reason, meta: info.metadata };
  }
  return { code, message, reason: '', meta: {} };
}
