// A lane is one HTTP/2 connection for one class of traffic between one caller and one callee. Lanes
// never share a connection, so bulk bytes cannot queue in front of a keystroke.
import { Channel, type ChannelOptions, connectivityState, credentials } from '@grpc/grpc-js';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { type Client, type ClientMiddleware, Metadata, createClientFactory } from 'nice-grpc';

import { type CallDeadline, type OutboundCall, setGrpcTimeout } from './deadlines.ts';
import { WrennError } from './errors.ts';
import { type PeerReasons, fromClientError } from './rpc-errors.ts';
import { type RpcDefinition, rpcDefinition } from './rpc-adapter.ts';
import { LaneLoad } from './telemetry/lane-load.ts';
import { tracedClient } from './telemetry/rpc.ts';

export type LaneName = 'control' | 'interactive' | 'bulk';
export type RpcClient<S extends GenServiceMethods> = Client<RpcDefinition<S>, OutboundCall>;

const MiB = 1024 * 1024;
const common: ChannelOptions = {
  // Without it grpc-js gives every channel to one address the same connection, process-wide.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 250,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
};
// Longer than the longest pause between two attempts to connect, with its jitter.
const reconnectLimitMs = 400;
const laneOptions: Record<LaneName, ChannelOptions> = {
  control: { 'grpc.max_receive_message_length': 4 * MiB },
  interactive: { 'grpc.max_receive_message_length': 4 * MiB },
  bulk: { 'grpc.max_receive_message_length': 4 * MiB, 'grpc-node.flow_control_window': 8 * MiB },
};

// The lanes from this process to one callee, each connected on first use unless it was opened before.
export class Lanes {
  readonly #target: string;
  readonly #peer: string;
  readonly #peerReasons: PeerReasons | undefined;
  readonly #connectTimeoutMs: number;
  readonly #lanes = new Map<LaneName, Lane>();

  // `target` as grpc-js takes it: `host:port` or `unix:/path`; `peer` names the callee in errors.
  // `connectTimeoutMs` bounds one attempt to connect; one that polls for a callee to appear wants it short.
  constructor(target: string, peer: string, peerReasons?: PeerReasons, connectTimeoutMs = 3000) {
    this.#target = target;
    this.#peer = peer;
    this.#peerReasons = peerReasons;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  client<S extends GenServiceMethods>(lane: LaneName, service: GenService<S>): RpcClient<S> {
    const { channel, load } = this.#lane(lane);
    return createClientFactory()
      .use(outbound(channel, this.#peer, this.#peerReasons))
      .use(tracedClient(load, this.#peerReasons && this.#peer.replace(/^the /, '')))
      .create(rpcDefinition(service), channel);
  }

  // Connects now, ahead of the first call on that lane; a failure shows at that call.
  open(lane: LaneName): void {
    this.#lane(lane).channel.getConnectivityState(true);
  }

  close(): void {
    for (const { channel } of this.#lanes.values()) channel.close();
    this.#lanes.clear();
  }

  #lane(name: LaneName): Lane {
    let lane = this.#lanes.get(name);
    if (!lane) {
      const channel = new Channel(this.#target, credentials.createInsecure(), {
        ...common,
        ...laneOptions[name],
        // Its name notwithstanding, grpc-js takes it as the time limit of a connection attempt.
        'grpc.min_reconnect_backoff_ms': this.#connectTimeoutMs,
      });
      lane = { channel, load: new LaneLoad(name) };
      this.#lanes.set(name, lane);
    }
    return lane;
  }
}

interface Lane {
  readonly channel: Channel;
  readonly load: LaneLoad;
}

// Sends the deadline along, enforces it here too, and turns failures into WrennErrors.
function outbound(
  channel: Channel,
  peer: string,
  peerReasons: PeerReasons | undefined,
): ClientMiddleware<OutboundCall> {
  return async function* outboundCall(call, options) {
    const { deadlineAtMs = Infinity, awaitPeerMs = 0, signal, onTrailer, ...rest } = options;
    const isUnary = !call.requestStream && !call.responseStream;
    if (isUnary && deadlineAtMs === Infinity) {
      throw new WrennError('INTERNAL', `${call.method.path} to ${peer} was called without a deadline`);
    }
    const metadata = Metadata(rest.metadata);
    const abort = new AbortController();
    const cancel = () => abort.abort();
    let isLate = false;
    let timer: NodeJS.Timeout | undefined;
    if (deadlineAtMs !== Infinity) {
      const remainingMs = deadlineAtMs - Date.now();
      if (remainingMs <= 0) throw new WrennError('DEADLINE_EXCEEDED', `no time was left to call ${peer}`);
      setGrpcTimeout(metadata, remainingMs);
      const expire = () => {
        isLate = true;
        abort.abort();
      };
      timer = setTimeout(expire, remainingMs);
    }
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    let trailer: Metadata | undefined;
    try {
      await awaitPeer(channel, awaitPeerMs, { deadlineAtMs, signal: abort.signal });
      return yield* call.next(call.request, {
        ...rest,
        metadata,
        signal: abort.signal,
        onTrailer(received) {
          trailer = received;
          onTrailer?.(received);
        },
      });
    } catch (error) {
      if (isLate) {
        throw new WrennError('DEADLINE_EXCEEDED', `${peer} did not answer in time`, { cause: error });
      }
      throw fromClientError(error, trailer, peer, peerReasons);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
    }
  };
}

// What a call waits for that may outlast the absence of its callee, and one that may not.
const isAway = [connectivityState.IDLE, connectivityState.CONNECTING, connectivityState.TRANSIENT_FAILURE];
const isBetweenAttempts = [connectivityState.TRANSIENT_FAILURE];

// A callee that has just come back is not refused because our last attempt to reach it failed: a call that falls
// between two attempts waits for the next one, a patient one for as many as it takes. Nothing is sent twice.
async function awaitPeer(channel: Channel, patienceMs: number, call: CallDeadline): Promise<void> {
  const isPatient = patienceMs > reconnectLimitMs;
  const endMs = Math.min(call.deadlineAtMs, Date.now() + (isPatient ? patienceMs : reconnectLimitMs));
  for (;;) {
    const state = channel.getConnectivityState(isPatient);
    const isWaiting = (isPatient ? isAway : isBetweenAttempts).includes(state);
    if (!isWaiting || call.signal.aborted || Date.now() >= endMs) return;
    await new Promise<void>((resolve) => {
      call.signal.addEventListener('abort', () => resolve(), { once: true });
      channel.watchConnectivityState(state, endMs, () => resolve());
    });
  }
}
