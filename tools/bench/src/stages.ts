// What an operation says of where its time went.
import { msOfDuration } from '@wrenn/kit/duration';
import type { StageTiming } from '@wrenn/proto/wrenn/v1/sandbox';

// From the start of the first of these stages to the end of the last; those that did not take place are left out.
export function spanMs(timings: readonly StageTiming[], ...stages: readonly string[]): number {
  const chosen = timings.filter(({ stage }) => stages.includes(stage)).map(boundsOf);
  if (chosen.length === 0) throw new Error(`no stage ${stages.join(' or ')} in ${textOf(timings)}`);
  return Math.max(...chosen.map(({ endMs }) => endMs)) - Math.min(...chosen.map(({ startMs }) => startMs));
}

export function startMs(timings: readonly StageTiming[], stage: string): number {
  const found = timings.find((each) => each.stage === stage);
  if (!found) throw new Error(`no stage ${stage} in ${textOf(timings)}`);
  return boundsOf(found).startMs;
}

export function textOf(timings: readonly StageTiming[]): string {
  return timings
    .map((timing) => {
      const { startMs: from, endMs } = boundsOf(timing);
      return `${timing.stage} ${(endMs - from).toFixed(1)}`;
    })
    .join(', ');
}

function boundsOf({ startedAfter, duration }: StageTiming): { startMs: number; endMs: number } {
  const from = startedAfter ? msOfDuration(startedAfter) : 0;
  return { startMs: from, endMs: from + (duration ? msOfDuration(duration) : 0) };
}
