// A lane is one HTTP/2 connection for one class of traffic between one caller and one callee. Lanes
// never share a connection, so bulk bytes cannot queue in front of a keystroke.
import { Channel, type ChannelOptions, connectivityState, credentials } from '@grpc/grpc-js';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { type Client, type ClientFactory, type ClientMiddleware, Metadata, createClientFactory } from 'nice-grpc';

import { type OutboundCall, Patience, abortsBy, isOutOfTime, setGrpcTimeout } from './deadlines.ts';
import { WrennError, hasReason } from './errors.ts';
import { type PeerReasons, fromClientError } from './rpc-errors.ts';
import { type PassingDefinition, type RpcDefinition, passingDefinition, rpcDefinition } from './rpc-adapter.ts';
import { WatchedSteps } from './rpc-steps.ts';
import { LaneLoad } from './telemetry/lane-load.ts';
import { clientSpan } from './telemetry/rpc.ts';

export type LaneName = 'control' | 'interactive' | 'bulk';
export type RpcClient<S extends GenServiceMethods> = Client<RpcDefinition<S>, OutboundCall>;
export type PassingClient<S extends GenServiceMethods> = Client<PassingDefinition<S>, OutboundCall>;

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
    const to = this.#lane(lane);
    return this.#factory(to).create(rpcDefinition(service), to.channel);
  }

  // For whoever passes calls on that came to passing handlers (RpcServer.pass).
  passingClient<S extends GenServiceMethods>(lane: LaneName, service: GenService<S>): PassingClient<S> {
    const to = this.#lane(lane);
    return this.#factory(to).create(passingDefinition(service), to.channel);
  }

  // Connects now, ahead of the first call on that lane; a failure shows at that call.
  open(lane: LaneName): void {
    this.#lane(lane).channel.getConnectivityState(true);
  }

  close(): void {
    for (const { channel } of this.#lanes.values()) channel.close();
    this.#lanes.clear();
  }

  #factory(to: Lane): ClientFactory<OutboundCall> {
    return createClientFactory().use(outbound(to, this.#peer, this.#peerReasons));
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

// Every call in a span of its own. Sends the deadline along, enforces it here too, and turns failures into WrennErrors.
function outbound(
  { channel, load }: Lane,
  peer: string,
  peerReasons: PeerReasons | undefined,
): ClientMiddleware<OutboundCall> {
  const reporter = peerReasons && peer.replace(/^the /, '');
  return (call, options) => {
    const { deadlineAtMs = Infinity, isOwnLimit, awaitPeerMs = 0, onHeader, onTrailer, ...rest } = options;
    const isWatched = abortsBy(rest.signal, deadlineAtMs);
    const metadata = Metadata(rest.metadata);
    const span = clientSpan(call.method.path, load, metadata, call.request);
    let patience: Patience | undefined;
    let trailer: Metadata | undefined;
    const open = async () => {
      const leftMs = deadlineAtMs - Date.now();
      if (leftMs === Infinity && !call.requestStream && !call.responseStream) {
        throw new WrennError('INTERNAL', `${call.method.path} to ${peer} was called without a deadline`);
      }
      if (leftMs <= 0) throw new WrennError('DEADLINE_EXCEEDED', `no time was left to call ${peer}`);
      if (leftMs !== Infinity) {
        setGrpcTimeout(metadata, leftMs);
        if (!isWatched) patience = new Patience(deadlineAtMs, rest.signal);
      }
      const { signal } = patience ?? rest;
      await awaitPeer(channel, awaitPeerMs, { deadlineAtMs, signal });
      return call.next(call.request, {
        ...rest,
        metadata,
        ...(signal && { signal }),
        onHeader(received) {
          if (reporter !== undefined) span?.reported(reporter, received);
          onHeader?.(received);
        },
        onTrailer(received) {
          trailer = received;
          onTrailer?.(received);
        },
      });
    };
    return new WatchedSteps(open, {
      came: (message) => span?.came(message),
      failed(error) {
        const isLate = patience?.isOver ?? (isWatched && rest.signal?.aborted && isOutOfTime({ deadlineAtMs }));
        const told = isLate
          ? new WrennError('DEADLINE_EXCEEDED', `${peer} did not answer in time`, { cause: error })
          : fromClientError(error, trailer, peer, peerReasons);
        const isSilence = isOwnLimit && hasReason(told, 'DEADLINE_EXCEEDED');
        const failure = isSilence ? new WrennError('SERVICE_UNAVAILABLE', told.message, { cause: told }) : told;
        span?.failed(failure);
        return failure;
      },
      ended() {
        patience?.end();
        span?.end();
      },
    });
  };
}

// What a call waits for that may outlast the absence of its callee, and one that may not.
const isAway = [connectivityState.IDLE, connectivityState.CONNECTING, connectivityState.TRANSIENT_FAILURE];
const isBetweenAttempts = [connectivityState.TRANSIENT_FAILURE];

interface BoundedCall {
  readonly deadlineAtMs: number;
  readonly signal: AbortSignal | undefined;
}

// A callee that has just come back is not refused because our last attempt to reach it failed: a call that falls
// between two attempts waits for the next one, a patient one for as many as it takes. Nothing is sent twice.
async function awaitPeer(channel: Channel, patienceMs: number, { deadlineAtMs, signal }: BoundedCall): Promise<void> {
  const isPatient = patienceMs > reconnectLimitMs;
  const endMs = Math.min(deadlineAtMs, Date.now() + (isPatient ? patienceMs : reconnectLimitMs));
  for (;;) {
    const state = channel.getConnectivityState(isPatient);
    const isWaiting = (isPatient ? isAway : isBetweenAttempts).includes(state);
    if (!isWaiting || signal?.aborted || Date.now() >= endMs) return;
    await new Promise<void>((resolve) => {
      signal?.addEventListener('abort', () => resolve(), { once: true });
      channel.watchConnectivityState(state, endMs, () => resolve());
    });
  }
}
