import { defineConfig } from 'vitest/config';

// Real microVMs: one file after the other, each with a mesh of its own.
export default defineConfig({
  test: {
    include: ['tools/e2e/test/**/*.test.ts'],
    globalSetup: ['tools/e2e/src/data-dir.ts'],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 240_000,
  },
});
