// Where one VM's files are. Every name bears the sandbox id, so that whatever a VM left can be found.
import { join } from 'node:path';

import type { SandboxId } from '@wrenn/kit/ids';

export type VmPaths = ReturnType<typeof vmPaths>;

// `vmsDir` is shared with the journal; `ramDir` is on a tmpfs.
export function vmPaths({ vmsDir, ramDir }: { vmsDir: string; ramDir: string }, sandboxId: SandboxId) {
  const dir = join(vmsDir, sandboxId);
  const jail = join(dir, 'jail'); // The VMM's own: it may write there.
  const frozen = join(ramDir, sandboxId); // Likewise; what a frozen VM leaves is in it.
  return {
    jail,
    frozen,
    ram: join(frozen, 'ram'),
    // Under a mapped memory: QEMU wants a file, and `ram` is the name of what changed.
    ramBase: join(frozen, 'ram-base'),
    vmstate: join(frozen, 'vmstate'),
    workingSet: join(frozen, 'workingset'),
    qmp: join(jail, 'qmp.sock'),
    pagerSocket: join(jail, 'pager.sock'),
    ramAddress: join(jail, 'ram-address'),
    log: join(dir, 'vmm.log'),
    pagerLog: join(dir, 'pager.log'),
  };
}
