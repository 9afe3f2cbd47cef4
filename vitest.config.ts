import { defineConfig } from 'vitest/config';

// Unit and service tests, beside the code. What boots microVMs is in tools/e2e and runs by itself.
export default defineConfig({
  test: {
    include: ['services/*/{src,test}/**/*.test.ts', 'tools/**/*.test.ts', 'images/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/target/**', 'tools/e2e/**'],
    // Everything shares two cores: a condition may take a while to hold.
    expect: { poll: { timeout: 10_000 } },
    // Most tests wait more than they compute: three files at a time, on two cores too.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    chaiConfig: { truncateThreshold: 400 }, // A failure says what was left behind, not how many things.
  },
});
