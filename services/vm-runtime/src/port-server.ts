import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import type { PortService } from '@wrenn/proto/wrenn/v1/port';

import type { VmTable } from './domain/vm-table.ts';

export function portHandlers(vms: Pick<VmTable, 'serving'>): RpcHandlers<typeof PortService.method> {
  return {
    async *watch(request, call) {
      const { agent } = await vms.serving(requireSandboxId(request.sandboxId));
      for await (const { kind, port, isLoopbackOnly } of agent.watchPorts(call.signal)) {
        yield { change: { case: kind, value: { port, isLoopbackOnly } } };
      }
    },
  };
}
