// Where the memory of a restored VM comes from, chosen by what each way is expected to cost over one life of the
// VM, from its restore to its next pause. The figures are those of docs/performance.md.
export const memorySources = ['map', 'uffd', 'copy'] as const;
export type MemorySource = (typeof memorySources)[number];

export interface MemoryFacts {
  readonly runCount: number; // Of the snapshot's header.
  readonly changedBytes: number; // By the last life: about what the next one will change.
  readonly workingSetPages: number;
}

const pageBytes = 4096;
const mapRunUs = 3; // One mmap.
const mapFaultUs = 1.5;
const dumpPageUs = 2; // Copied out of the stopped VM at its next pause.
// A pause is promised not to grow with what was written.
const dumpLimitUs = 15_000;
const pagerStartUs = 4000;
const uffdCopyUs = 1.3;
const uffdFaultUs = 61;
// Of the pages that a VM changes, those that its recorded working set does not have.
const missedShare = 0.1;
// A process may have 65,530 mappings.
const maxRuns = 32_768;

export function cheapestSource(facts: MemoryFacts): MemorySource {
  const changedPages = facts.changedBytes / pageBytes;
  if (facts.runCount > maxRuns || changedPages * dumpPageUs > dumpLimitUs) return 'uffd';
  return mapCostUs(facts) <= uffdCostUs(facts) ? 'map' : 'uffd';
}

function mapCostUs({ runCount, changedBytes, workingSetPages }: MemoryFacts): number {
  const changedPages = changedBytes / pageBytes;
  return runCount * mapRunUs + Math.max(workingSetPages, changedPages) * mapFaultUs + changedPages * dumpPageUs;
}

function uffdCostUs({ changedBytes, workingSetPages }: MemoryFacts): number {
  const faults = Math.max(changedBytes / pageBytes - workingSetPages, 0) + workingSetPages * missedShare;
  return pagerStartUs + workingSetPages * uffdCopyUs + faults * uffdFaultUs;
}
