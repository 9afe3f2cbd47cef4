// What the gateway needs of the services behind it.
import type { DescMethod, Message } from '@bufbuild/protobuf';
import type { CallDeadline, OutboundCall } from '@wrenn/kit/deadlines';

export interface Peer {
  // Yields the one answer of a unary method, or all of a stream as fast as they are taken, as bytes that nobody has
  // looked into. A stream of requests is taken as fast as the callee takes it.
  call(method: DescMethod, request: Message | AsyncIterable<Message>, options: OutboundCall): AsyncIterable<Uint8Array>;
}

// Where the vm-runtime of a host serves: bytes in number apart from all else.
export interface HostAddress {
  readonly interactive: string;
  readonly bulk: string;
}

export type Traffic = keyof HostAddress;

export function isSameHost(a: HostAddress, b: HostAddress): boolean {
  return a.interactive === b.interactive && a.bulk === b.bulk;
}

export interface PeerUse extends Disposable {
  readonly peer: Peer;
}

export interface HostPeers {
  // The host's peer for this traffic stays open until the use is disposed of.
  use(host: HostAddress, traffic: Traffic): PeerUse;
}

// Asks the scheduler where the vm-runtime is that has a sandbox.
export type ResolveSandbox = (sandboxId: string, caller: CallDeadline) => Promise<HostAddress>;
