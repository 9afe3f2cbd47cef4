// What the guest starts from: the agent as /init and the modules it loads first. Any root filesystem works unprepared.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Step } from '../cache.ts';
import { packNewc, type Entry } from '../newc.ts';

const directories = ['proc', 'sys', 'dev', 'run', 'newroot', 'mod'];

// Uncompressed: unpacking costs an emulated CPU more than the host's copy of a few MiB.
export function initramfsStep(root: string, agentDir: string, kernelDir: string): Step {
  return {
    name: 'initramfs',
    inputs: {
      root,
      paths: ['images/steps/initramfs.ts', 'images/newc.ts'],
      values: [basename(agentDir), basename(kernelDir)],
    },
    build: async (dir) => {
      const modules = (await readdir(join(kernelDir, 'modules'))).toSorted();
      const entries: Entry[] = [
        ...directories.map((path): Entry => ({ kind: 'directory', path, mode: 0o755 })),
        // The kernel opens it for PID 1 before anything is mounted.
        { kind: 'character', path: 'dev/console', mode: 0o600, device: [5, 1] },
        { kind: 'file', path: 'init', mode: 0o755, content: await readFile(join(agentDir, 'wrenn-agent')) },
      ];
      for (const name of modules) {
        const content = await readFile(join(kernelDir, 'modules', name));
        entries.push({ kind: 'file', path: `mod/${name}`, mode: 0o644, content });
      }
      await writeFile(join(dir, 'initramfs'), packNewc(entries));
    },
  };
}
