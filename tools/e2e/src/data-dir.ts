// Where the meshes of one run keep their data: new for each run, and gone at its end.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    dataDir: string;
  }
}

export async function makeDataDir(program: string): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), `wrenn-${program}-`));
  await chmod(dataDir, 0o711); // PostgreSQL and the VMMs run as users of their own.
  return dataDir;
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await makeDataDir('e2e-data');
  project.provide('dataDir', dataDir);
  return () => rm(dataDir, { recursive: true, force: true });
}
