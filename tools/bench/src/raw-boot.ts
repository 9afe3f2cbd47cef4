// The floor under `create`: QEMU spawned by hand with the arguments the mesh itself uses, on a disk and
// in a network slot that stand ready. Timed from spawn to the first answer of the agent's own service.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';

import { argsFor, inRawSlot, untilFirstAnswer, vmmArgs } from './raw-guest.ts';

export class RawBoot {
  readonly #mesh: TestMesh;
  readonly #model: Guest;
  readonly #modelArgs: readonly string[];
  readonly #template: string;

  // `model` is a running sandbox of the mesh, whose VMM's arguments are taken as they are.
  constructor(mesh: TestMesh, model: Guest, template: string) {
    this.#mesh = mesh;
    this.#model = model;
    this.#modelArgs = vmmArgs(model);
    this.#template = template;
  }

  // Boots once, returns the milliseconds to readiness, removes everything.
  run(): Promise<number> {
    return inRawSlot(this.#mesh, async (slot) => {
      const virtualBytes = (await this.#model.get()).diskBytes;
      const request = { diskId: slot.id, image: this.#template, virtualBytes };
      const { disk } = await slot.store.createDisk(request, inMs(30_000));
      if (!disk) throw new Error('the mesh gave no disk');
      const args = await argsFor(this.#modelArgs, this.#model.id, slot, disk.path);
      return untilFirstAnswer(slot, this.#template, args);
    });
  }
}
