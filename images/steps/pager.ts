// The pager, one static binary, and the shim that is preloaded into QEMU, a shared library on the host's glibc.
import type { Step } from '../cache.ts';
import { crateStep } from './crate.ts';

const path = 'services/pager';
export const pagerFiles = ['wrenn-pager', 'libwrenn_shim.so'] as const;

export function pagerStep(root: string): Step {
  const sources = ['src', 'shim', 'Cargo.toml', 'Cargo.lock'].map((source) => `${path}/${source}`);
  return crateStep(root, {
    name: 'pager',
    path,
    sources: [...sources, 'images/steps/pager.ts'],
    builds: [
      ['rustc', '--bin', 'wrenn-pager', '--', '-C', 'target-feature=+crt-static'],
      ['build', '-p', 'wrenn-shim'],
    ],
    outputs: pagerFiles.map((file) => `release/${file}`),
  });
}
