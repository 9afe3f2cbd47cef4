import { type Duration, type Timestamp, timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt';

// Milliseconds of a protobuf Duration, rounded to the microsecond.
export function msOfDuration(duration: Duration): number {
  return Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1000) / 1000;
}

export function durationOfMs(ms: number): { seconds: bigint; nanos: number } {
  const seconds = Math.trunc(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

export function timestampOf(date: Date): Timestamp {
  return timestampFromMs(date.getTime());
}

export { timestampDate };
