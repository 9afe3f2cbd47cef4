// Transfers through the mesh, one after another (in: of 1 GiB; out: of the file that is there).
import type { TestMesh } from '@wrenn/e2e/mesh';

import { LoadProcess } from './load-process.ts';

export type Direction = 'up' | 'down';
export const loadPath = '/home/user/load'; // Whoever the template's commands run as may write there.

export class Load extends LoadProcess {
  // Resolves once bytes flow.
  static async start(mesh: TestMesh, sandboxId: string, direction: Direction): Promise<Load> {
    const { gateway, gatewayBulk } = mesh.mesh.addresses;
    const load = new Load('load-client.ts', [gateway, gatewayBulk, sandboxId, loadPath, direction]);
    await load.begun();
    return load;
  }

  // In MB/s.
  get rate(): number {
    return this.perSecond / 1e6;
  }
}
