// The floor under `resume`: QEMU spawned by hand on the files of a snapshot, with the arguments that the mesh itself
// uses and its memory mapped by the same shim. Timed from spawn to the first answer of the agent's own service.
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';

import { argsFor, inRawSlot, untilFirstAnswer, vmmArgs } from './raw-guest.ts';

const firstFd = 3;

export class RawRestore {
  readonly #mesh: TestMesh;
  readonly #modelId: string;
  readonly #modelArgs: readonly string[];
  readonly #template: string;

  // `model` is a sandbox that runs after a resume.
  constructor(mesh: TestMesh, model: Guest, template: string) {
    this.#mesh = mesh;
    this.#modelId = model.id;
    this.#modelArgs = vmmArgs(model);
    this.#template = template;
  }

  // Restores once, returns the milliseconds to readiness, removes everything; the snapshot stays as it is.
  run(snapshotId: string): Promise<number> {
    return inRawSlot(this.#mesh, async (slot) => {
      const opened = await slot.store.openSnapshot({ snapshotId, diskId: slot.id }, inMs(30_000));
      const model = await argsFor(this.#modelArgs, this.#modelId, slot, opened.disk?.path ?? '');
      const files: FileHandle[] = [];
      const pass = async (path: string) => {
        const file = await open(path);
        slot.undo.push(() => file.close());
        return firstFd + files.push(file) - 1;
      };
      const vmstate = await pass(opened.vmstatePath);
      const header = await pass(opened.headerPath);
      const builds: number[] = [];
      for (const { path } of opened.memoryFiles) builds.push(await pass(path));
      const args = model
        .filter((arg) => arg !== '-S') // It goes on by itself.
        .map((arg, index, all) => (all[index - 1] === '-incoming' ? `fd:${vmstate}` : arg));
      const env = {
        LD_PRELOAD: join(this.#mesh.mesh.options.imagesDir, 'libwrenn_shim.so'),
        WRENN_SHIM: 'map',
        WRENN_SHIM_RAM: pathIn(args, /mem-path=([^,]+)/),
        WRENN_SHIM_HEADER: header,
        WRENN_SHIM_FILES: builds.join(','),
        WRENN_SHIM_REPORT: join(dirname(pathIn(args, /^unix:([^,]+)/)), 'ram-address'),
      };
      const command = ['env', ...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...args];
      const stdio = ['ignore' as const, 'ignore' as const, 'inherit' as const, ...files.map(({ fd }) => fd)];
      return untilFirstAnswer(slot, this.#template, command, stdio);
    });
  }
}

function pathIn(args: readonly string[], pattern: RegExp): string {
  const path = args.map((arg) => pattern.exec(arg)?.[1]).find((found) => found !== undefined);
  if (path === undefined) throw new Error(`no argument is like ${String(pattern)}`);
  return path;
}
