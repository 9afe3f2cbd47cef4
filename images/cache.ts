// The result of a step is complete or absent: it is built in a temporary directory and renamed when it is on disk.
// What a killed build leaves is only that directory, which the next build of the same step sweeps.
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '@wrenn/kit/durable-file';
import { runProgram } from '@wrenn/kit/run-program';
import { hashInputs, type Inputs } from './inputs.ts';
import { withLock } from './lock.ts';

export const cacheDir = process.env['WRENN_CACHE_DIR'] ?? '/var/cache/wrenn';

export type Say = (text: string) => void;

export interface Step {
  readonly name: string;
  readonly inputs: Inputs;
  // Fills an empty directory.
  readonly build: (dir: string, say: Say) => Promise<void>;
}

export class Cache {
  readonly #root: string;
  readonly #print: Say;

  constructor(root: string, print: Say) {
    this.#root = root;
    this.#print = print;
  }

  // Resolves to the directory that holds the step's result, building it where no one has yet.
  async provide(step: Step): Promise<string> {
    const say: Say = (text) => this.#print(`${step.name.padEnd(16)} ${text}`);
    const key = step.name.replaceAll(':', '-');
    const dir = join(this.#root, `${key}-${(await hashInputs(step.inputs)).slice(0, 12)}`);
    if (await exists(dir)) {
      say('cached');
      return dir;
    }
    await mkdir(this.#root, { recursive: true });
    return await withLock(join(this.#root, `${key}.lock`), async () => {
      if (await exists(dir)) say('built by someone else meanwhile');
      else await this.#build(step, key, dir, say);
      return dir;
    });
  }

  async #build(step: Step, key: string, dir: string, say: Say): Promise<void> {
    await this.#sweep(key);
    const began = performance.now();
    say('building ...');
    const temporary = `${dir}.tmp`;
    await mkdir(temporary);
    try {
      await step.build(temporary, say);
      await runProgram('sync', ['-f', temporary], { timeoutMs: 300_000 });
      await rename(temporary, dir);
      await syncDirectory(this.#root);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw new Error(`image step ${step.name}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    say(`built in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }

  async #sweep(key: string): Promise<void> {
    const leftover = new RegExp(`^${key}-[0-9a-f]{12}\\.tmp$`);
    for (const name of await readdir(this.#root))
      if (leftover.test(name)) await rm(join(this.#root, name), { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
