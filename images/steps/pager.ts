// The pager, one static binary, and the shim that is preloaded into QEMU, a shared library on the host's glibc.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Step } from '../cache.ts';
import { hashInputs, type Inputs } from '../inputs.ts';
import { runLong } from '../run-long.ts';

const crate = 'services/pager';
export const pagerFiles = ['wrenn-pager', 'libwrenn_shim.so'] as const;

export function pagerStep(root: string): Step {
  const sources = ['src', 'shim', 'Cargo.toml', 'Cargo.lock'].map((path) => `${crate}/${path}`);
  const inputs: Inputs = { root, paths: [...sources, 'images/steps/pager.ts'] };
  const isStatic = ['--', '-C', 'target-feature=+crt-static'];
  return {
    name: 'pager',
    inputs,
    build: async (dir, say) => {
      const before = await hashInputs(inputs);
      const cargo = (...args: string[]): Promise<void> => runLong(say, 'cargo', [...args], { cwd: join(root, crate) });
      const release = ['--release', '--locked', '--color=never'];
      await cargo('rustc', ...release, '--bin', 'wrenn-pager', ...isStatic);
      await cargo('build', ...release, '-p', 'wrenn-shim');
      if ((await hashInputs(inputs)) !== before)
        throw new Error('its sources changed while it was built: run it again');
      for (const file of pagerFiles) await copyFile(join(root, crate, 'target/release', file), join(dir, file));
    },
  };
}
