// What `make test` runs: stages one after the other, the microVMs last; the lanes of a stage side by side.
import { existsSync } from 'node:fs';
import { glob, mkdir, readFile, rm } from 'node:fs/promises';
import { cargo } from './cargo.ts';
import { countCargo, countChecks, countVitest } from './counts.ts';
import { outsideFailures } from './outside-reporter.ts';
import type { Suite } from './run-suite.ts';

const reports = '.build/test';

export type Lane = readonly Suite[];

export async function stages(): Promise<Lane[][]> {
  await rm(reports, { recursive: true, force: true });
  await mkdir(reports, { recursive: true });
  const check: Suite = {
    title: 'check',
    command: ['node', 'tools/test/check.ts'],
    count: async (output) => countChecks(output),
  };
  const unit = vitest('unit and service tests', 'vitest.config.ts', 'unit');
  // Unit tests wait more than they compute, and compilers and downloads do not wait for each other.
  const beforeMicroVms = [
    [unit],
    [check, cargoTests('guest agent', 'services/guest-agent'), cargoTests('pager', 'services/pager')],
  ];
  const e2e = await Array.fromAsync(glob('tools/e2e/**/*.test.ts', { exclude: ['**/node_modules/**'] }));
  if (e2e.length === 0 || !existsSync('tools/e2e/vitest.config.ts')) return [beforeMicroVms];
  // Each counts as one test.
  const forMicroVms: Lane = [
    {
      title: 'foreign programs',
      command: ['tools/setup/bootstrap.sh', 'e2e'],
      count: async () => ({ passed: 1, failed: 0, failures: [] }), // It says nothing of what is there already.
    },
    {
      title: 'guest images',
      command: ['node', 'images/build.ts'],
      count: async (output) => ({ passed: output.match(/^images: ready/m) ? 1 : 0, failed: 0, failures: [] }),
    },
  ];
  return [[...beforeMicroVms, forMicroVms], [[vitest('end to end', 'tools/e2e/vitest.config.ts', 'e2e')]]];
}

function cargoTests(title: string, cwd: string): Suite {
  return {
    title,
    command: cargo(cwd, 'test', '--color=never'),
    cwd,
    count: async (output) => countCargo(output),
  };
}

function vitest(title: string, config: string, name: string): Suite {
  const report = `${reports}/${name}.json`;
  return {
    title,
    command: [
      'vitest',
      'run',
      `--config=${config}`,
      '--reporter=default',
      '--reporter=./tools/test/outside-reporter.ts',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ],
    count: async (output) => countVitest(await readFile(report, 'utf8'), outsideFailures(output)),
  };
}
