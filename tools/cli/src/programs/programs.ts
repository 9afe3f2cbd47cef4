// Which programs there are, and what Node is to run for each: its sources, or the file that bundle.ts made of them and
// of the packages they use, which starts in half the time (docs/decisions/0019-bundled-programs.md). A bundle
// counts only while it and every file that it was made of are as they were, so nobody ever runs what the sources no longer say.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

// Paths are relative to the repository's root.
export const programs = [
  'services/network/src/main.ts',
  'services/snapshot-store/src/main.ts',
  'services/scheduler/src/main.ts',
  'services/vm-runtime/src/main.ts',
  'services/gateway/src/main.ts',
  'services/edge-proxy/src/main.ts',
  'services/trace-keeper/src/main.ts',
  'tools/cli/src/main.ts',
  'tools/cli/src/supervise.ts',
] as const;

// Of a bundle's own files and of those that it was made of.
export type BundleState = Readonly<Record<string, FileState>>;
export type FileState = readonly [mtimeMs: number, bytes: number];

export function bundleOf(source: string): string {
  return join('.build/programs', source.replace(/\.ts$/, '.js'));
}

export function stateFileOf(source: string): string {
  return join('.build/programs', source.replace(/\.ts$/, '.state.json'));
}

// What Node is to run, relative to the root.
export function runnable(root: string, source: string): string {
  return isFresh(root, source) ? bundleOf(source) : source;
}

export function isFresh(root: string, source: string): boolean {
  try {
    const files = JSON.parse(readFileSync(join(root, stateFileOf(source)), 'utf8')) as BundleState;
    return Object.entries(files).every(([path, [mtimeMs, bytes]]) => {
      const now = stateOf(join(root, path));
      return now?.[0] === mtimeMs && now[1] === bytes;
    });
  } catch {
    return false; // Never bundled, or cut off while it was.
  }
}

export function stateOf(path: string): FileState | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats && [stats.mtimeMs, stats.size];
}
