// What a call meets on its lane: how many others are under way, how long it waits until its headers leave, and how
// many bytes stand before it. Node tells of each HTTP/2 stream by its diagnostics channels; a call knows its own
// stream by the `traceparent` it sent, which is different for every call.
import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';

import { type LaneAtWork, lanesAtWork } from './lane-gauges.ts';
import { LaneFigures, type MeasuredCall } from './rpc-metrics.ts';

interface StreamMessage {
  readonly stream: ClientHttp2Stream;
  readonly headers: OutgoingHttpHeaders;
}

// The calls of one lane. A lane is one connection, so whichever stream shows it shows what they share.
export class LaneLoad implements LaneAtWork {
  readonly name: string;
  readonly figures: LaneFigures;
  readonly #calls = new Set<LaneCall>();

  constructor(name: string) {
    this.name = name;
    this.figures = new LaneFigures(name);
  }

  begin(): LaneCall {
    const call = new LaneCall(this, this.#calls.size + 1);
    this.#calls.add(call);
    lanesAtWork.add(this);
    return call;
  }

  end(call: LaneCall): void {
    this.#calls.delete(call);
    if (this.#calls.size === 0) lanesAtWork.delete(this);
    if (call.traceparent !== undefined) awaited.delete(call.traceparent);
  }

  get callCount(): number {
    return this.#calls.size;
  }

  // Bytes that streams have taken from their writers and not given to the connection.
  unsentBytes(): number {
    let bytes = 0;
    for (const { stream } of this.#calls) bytes += stream?.writableLength ?? 0;
    return bytes;
  }

  // Come over the connection and counted against its window still, so that the peer may send so much less.
  unreadBytes(): number {
    for (const { stream } of this.#calls) {
      if (stream) return windowUsed(stream.session as ClientHttp2Session | undefined);
    }
    return 0;
  }
}

export class LaneCall implements MeasuredCall {
  // Calls under way on the lane when this one began, itself included.
  readonly inFlight: number;
  readonly startMs = performance.now();
  traceparent: string | undefined;
  stream: ClientHttp2Stream | undefined;
  // From the call until its headers were given to the connection; undefined while they are not.
  queuedMs: number | undefined;
  firstMessageMs: number | undefined;
  // Written to the lane by all its calls, and not taken by the peer's window, when the headers left.
  unsentBytes = 0;
  // Come over the connection and not read then.
  windowUsedBytes = 0;
  readonly #lane: LaneLoad;

  constructor(lane: LaneLoad, inFlight: number) {
    this.#lane = lane;
    this.inFlight = inFlight;
  }

  // Its stream will carry this header.
  awaitStream(traceparent: string): void {
    watchStreams();
    this.traceparent = traceparent;
    awaited.set(traceparent, this);
  }

  // Its first message has come, or its end.
  answered(): void {
    this.firstMessageMs ??= performance.now() - this.startMs;
  }

  end(): void {
    this.#lane.end(this);
  }

  began(stream: ClientHttp2Stream): void {
    this.queuedMs = performance.now() - this.startMs;
    this.unsentBytes = this.#lane.unsentBytes();
    this.stream = stream;
    this.windowUsedBytes = windowUsed(stream.session as ClientHttp2Session | undefined);
  }
}

function windowUsed(session: ClientHttp2Session | undefined): number {
  return session?.destroyed === false ? (session.state.effectiveRecvDataLength ?? 0) : 0;
}

const awaited = new Map<string, LaneCall>();
let isWatching = false;

// One subscription for all lanes of the process: a channel has no other place.
function watchStreams(): void {
  if (isWatching) return;
  isWatching = true;
  subscribe('http2.client.stream.start', (message) => {
    const { stream, headers } = message as StreamMessage;
    const { traceparent } = headers;
    if (typeof traceparent !== 'string') return;
    awaited.get(traceparent)?.began(stream);
    awaited.delete(traceparent);
  });
}
