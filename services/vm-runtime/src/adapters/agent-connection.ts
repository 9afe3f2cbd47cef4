// The lanes to one guest's agent. They belong to one VM and end with it: closing cuts what still runs,
// because a dead guest sends no reset and its calls would hang until keepalive notices.
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { type Reason, WrennError } from '@wrenn/kit/errors';
import { type LaneName, Lanes, type RpcClient } from '@wrenn/kit/lanes';
import { ClientError, Metadata } from 'nice-grpc-common';

import type { CloseReason } from '../domain/guest-agent.ts';
import { agentReasons } from './agent-reasons.ts';
import { GuestSockets } from './guest-sockets.ts';

export const agentPort = 49_983;
const maxMessageChars = 1000;

// What a failure at the agent's end means to a caller; the agent's own reasons stay.
const reasonsHere: Partial<Record<Reason, Reason>> = {
  SERVICE_UNAVAILABLE: 'AGENT_UNREACHABLE',
  INTERNAL: 'AGENT_MISBEHAVED',
};

const closeMessages = {
  VMM_DIED: 'the sandbox ended during the call',
  SANDBOX_PAUSED: 'the sandbox was paused during the call; its processes go on when it is resumed',
} as const;

export class AgentConnection {
  readonly address: string;
  readonly accessToken: string; // Empty: the guest has none.
  readonly #lanes: Lanes;
  #sockets: GuestSockets | undefined; // Of the lanes; exchanges over HTTP cut their own.
  readonly #gone = new AbortController();
  #why: CloseReason = 'VMM_DIED';
  #isPausing = false;

  constructor(address: string, accessToken: string) {
    this.address = address;
    this.accessToken = accessToken;
    this.#lanes = new Lanes(`${address}:${agentPort}`, 'the guest agent', agentReasons);
  }

  client<S extends GenServiceMethods>(lane: LaneName, service: GenService<S>): RpcClient<S> {
    this.#sockets ??= new GuestSockets(this.address, agentPort);
    return this.#lanes.client(lane, service);
  }

  // Commands come next: their lane is connected while the host is still busy with its own part.
  expectCommands(): void {
    this.#lanes.open('interactive');
  }

  // Aborts with the VM.
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  bounded(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.gone]) : this.gone;
  }

  // A call in the name of a user of the guest; empty means the default one.
  as(user: string, call: OutboundCall): OutboundCall & { metadata: Metadata } {
    return { ...call, signal: this.bounded(call.signal), metadata: this.metadataAs(user) };
  }

  metadataAs(user: string): Metadata {
    const metadata = Metadata();
    // envd's protocol names the user by HTTP's basic authentication, without a password.
    if (user !== '') metadata.set('authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    if (this.accessToken !== '') metadata.set('x-access-token', this.accessToken);
    return metadata;
  }

  async asked<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw this.translated(error);
    }
  }

  // What `take` makes of each message; undefined ones are left out.
  async *streamed<M, T>(
    messages: AsyncIterable<M>,
    take: (message: M) => T | undefined,
  ): AsyncGenerator<T, void, undefined> {
    try {
      for await (const message of messages) {
        const taken = take(message);
        if (taken !== undefined) yield taken;
      }
    } catch (error) {
      throw this.translated(error);
    }
  }

  translated(error: unknown): WrennError {
    if (this.gone.aborted) return new WrennError(this.#why, closeMessages[this.#why], { cause: error });
    // Bytes that grpc-js does not foresee make it fail without a status.
    if (!(error instanceof WrennError)) {
      return new WrennError('AGENT_MISBEHAVED', 'the agent sent what cannot be read', { cause: error });
    }
    const reason = isBrokenOff(error) ? 'AGENT_UNREACHABLE' : (reasonsHere[error.reason] ?? error.reason);
    if (this.#isPausing && reason === 'AGENT_UNREACHABLE') {
      return new WrennError('SANDBOX_PAUSED', closeMessages.SANDBOX_PAUSED, { cause: error });
    }
    return new WrennError(reason, printable(error.message), { cause: error, meta: error.meta });
  }

  // From when the guest is told to stand still, which drops connections, until it may go on.
  set isPausing(is: boolean) {
    this.#isPausing = is;
  }

  close(why: CloseReason = 'VMM_DIED'): void {
    this.#why = why;
    this.#gone.abort();
    this.#lanes.close();
    this.#sockets?.close();
  }
}

// By the other side: what our side cancels fails by an AbortError.
const isBrokenOff = ({ reason, cause }: WrennError) => reason === 'CANCELLED' && cause instanceof ClientError;

// The text comes from inside the guest and ends in terminals and logs.
export function printable(text: string): string {
  return text.slice(0, maxMessageChars).replaceAll(/[\p{Cc}\p{Cf}]/gu, '?');
}
