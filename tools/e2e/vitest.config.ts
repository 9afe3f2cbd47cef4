import { defineConfig } from 'vitest/config';

import { LongestFirst } from './src/longest-first.ts';
import { workers } from './src/place.ts';

// Real microVMs: each file has a mesh of its own, and as many files run at a time as there are places.
export default defineConfig({
  test: {
    include: ['tools/e2e/test/**/*.test.ts'],
    globalSetup: ['tools/e2e/src/data-dir.ts'],
    maxWorkers: workers,
    sequence: { sequencer: LongestFirst },
    testTimeout: 180_000,
    hookTimeout: 240_000,
    chaiConfig: { truncateThreshold: 400 }, // A failure says what was left behind, not how many things.
  },
});
