// What the gateway needs of the services behind it.
import type { DescMethod, Message } from '@bufbuild/protobuf';
import type { CallDeadline, OutboundCall } from '@wrenn/kit/deadlines';

export interface Peer {
  // Yields the one answer of a unary method, or all of a stream as fast as they are taken.
  call(method: DescMethod, request: Message, options: OutboundCall): AsyncIterable<Message>;
}

export interface PeerUse extends Disposable {
  readonly peer: Peer;
}

export interface HostPeers {
  // The host's peer stays open until the use is disposed of.
  use(address: string): PeerUse;
}

// Asks the scheduler for the address of the vm-runtime that has a sandbox.
export type ResolveSandbox = (sandboxId: string, caller: CallDeadline) => Promise<string>;
