// Release builds of a Rust crate of ours. What cargo compiles is kept for every clone on this machine, as its tests
// are: nearly all of it is dependencies.
import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cacheDir, type Step } from '../cache.ts';
import { hashInputs, type Inputs } from '../inputs.ts';
import { withLock } from '../lock.ts';
import { runLong } from '../run-long.ts';

export interface Crate {
  readonly name: string;
  readonly path: string;
  // Files and folders of the repository that the result depends on, but for this one.
  readonly sources: readonly string[];
  // cargo's subcommands, each with arguments of its own.
  readonly builds: readonly (readonly [string, ...string[]])[];
  // Below the target directory.
  readonly outputs: readonly string[];
}

export function crateStep(root: string, { name, path, sources, builds, outputs }: Crate): Step {
  const inputs: Inputs = { root, paths: [...sources, 'images/steps/crate.ts'] };
  const target = cargoTarget(path);
  const release = ['--release', '--locked', '--color=never', `--target-dir=${target}`];
  // In the crate's own directory, for its .cargo/config.toml.
  const cwd = join(root, path);
  return {
    name,
    inputs,
    build: async (dir, say) => {
      await mkdir(target, { recursive: true });
      // Until its outputs are taken: another clone may build other sources to the same place.
      await withLock(`${target}.lock`, async () => {
        const before = await hashInputs(inputs);
        for (const [command, ...args] of builds) await runLong(say, 'cargo', [command, ...release, ...args], { cwd });
        if ((await hashInputs(inputs)) !== before)
          throw new Error('its sources changed while it was built: run it again');
        for (const output of outputs) await copyFile(join(target, output), join(dir, basename(output)));
      });
    },
  };
}

export function cargoTarget(crate: string): string {
  return join(cacheDir, 'cargo', basename(crate));
}
