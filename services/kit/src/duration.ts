import { type Duration, type Timestamp, timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt';

// Milliseconds of a protobuf Duration, rounded to the microsecond.
export function msOfDuration(duration: Duration): number {
  return Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1000) / 1000;
}

export function durationOfMs(ms: number): { seconds: bigint; nanos: number } {
  // Rounded to whole nanoseconds before it is split, so that nanos never come to a full second.
  const totalNanos = BigInt(Math.trunc(ms)) * 1_000_000n + BigInt(Math.round((ms % 1) * 1e6));
  return { seconds: totalNanos / 1_000_000_000n, nanos: Number(totalNanos % 1_000_000_000n) };
}

export function timestampOf(date: Date): Timestamp {
  return timestampFromMs(date.getTime());
}

export { timestampDate };
