// What streams of this process hold now: bytes that a callee does not take, and bytes that came and nobody here reads.
import { processMetrics } from '../metrics/process-metrics.ts';

export interface LaneAtWork {
  readonly name: string;
  readonly callCount: number;
  unsentBytes(): number;
  unreadBytes(): number;
}

// Those with a call under way.
export const lanesAtWork = new Set<LaneAtWork>();

const labels = ['lane'] as const;
// Told also while nothing is under way.
const laneNames = ['control', 'interactive', 'bulk'];

processMetrics.read(
  'gauge',
  { name: 'wrenn_rpc_lane_open_calls', help: 'Calls and streams under way on lanes to others.', labels },
  () => sums((lane) => lane.callCount),
);
processMetrics.read(
  'gauge',
  {
    name: 'wrenn_rpc_lane_unsent_bytes',
    help: 'Bytes of streams that the other side of a lane does not take.',
    labels,
  },
  () => sums((lane) => lane.unsentBytes()),
);
processMetrics.read(
  'gauge',
  { name: 'wrenn_rpc_lane_unread_bytes', help: 'Bytes that came over a lane and were not read here yet.', labels },
  () => sums((lane) => lane.unreadBytes()),
);

function sums(figureOf: (lane: LaneAtWork) => number) {
  const found = new Map(laneNames.map((name) => [name, 0]));
  for (const lane of lanesAtWork) found.set(lane.name, (found.get(lane.name) ?? 0) + figureOf(lane));
  return Array.from(found, ([lane, value]) => [value, { lane }] as const);
}
