import { type RpcClient, Lanes } from '@wrenn/kit/lanes';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { isSandboxId } from '@wrenn/kit/ids';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { MetricsService } from '@wrenn/proto/wrenn/v1/metrics';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { type Sandbox, SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import { gatewayPeer } from './exit-codes.ts';
import { gatewayBulkOffset } from './mesh/options.ts';

// The public API of a mesh, as its gateway serves it.
export class MeshClient implements Disposable {
  readonly gateway: string;
  readonly sandboxes: RpcClient<(typeof SandboxService)['method']>;
  readonly snapshots: RpcClient<(typeof SnapshotService)['method']>;
  readonly processes: RpcClient<(typeof ProcessService)['method']>;
  readonly metrics: RpcClient<(typeof MetricsService)['method']>;
  readonly logs: RpcClient<(typeof LogService)['method']>;
  readonly hosts: RpcClient<(typeof HostService)['method']>;
  readonly files: RpcClient<(typeof FilesystemService)['method']>;
  readonly ports: RpcClient<(typeof PortService)['method']>;
  readonly traces: RpcClient<(typeof TraceService)['method']>;
  // For Read and Write: another process, so that bytes in number do not slow what is typed.
  readonly bytes: RpcClient<(typeof FilesystemService)['method']>;
  readonly #lanes: Lanes;
  readonly #bulkLanes: Lanes;

  constructor(gateway: string, gatewayBulk = besideOf(gateway)) {
    this.gateway = gateway;
    this.#lanes = new Lanes(gateway, gatewayPeer);
    this.#bulkLanes = new Lanes(gatewayBulk, gatewayPeer);
    this.files = this.#lanes.client('interactive', FilesystemService);
    this.ports = this.#lanes.client('interactive', PortService);
    this.bytes = this.#bulkLanes.client('bulk', FilesystemService);
    this.sandboxes = this.#lanes.client('control', SandboxService);
    this.snapshots = this.#lanes.client('control', SnapshotService);
    this.hosts = this.#lanes.client('control', HostService);
    this.processes = this.#lanes.client('interactive', ProcessService);
    this.metrics = this.#lanes.client('control', MetricsService);
    this.traces = this.#lanes.client('control', TraceService);
    this.logs = this.#lanes.client('bulk', LogService);
  }

  [Symbol.dispose](): void {
    this.#lanes.close();
    this.#bulkLanes.close();
  }

  // Every sandbox in the given states (none given: those that live), newest first.
  async *list(states: SandboxState[] = []): AsyncGenerator<Sandbox> {
    let pageToken = '';
    do {
      const page = await this.sandboxes.list({ states, pageSize: 1000, pageToken }, inMs(30_000));
      yield* page.sandboxes;
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  // The id that a person means: whole, or a prefix (with or without `cl-`) that fits one sandbox only.
  async findId(text: string): Promise<string> {
    if (isSandboxId(text)) return text;
    const prefix = text.startsWith('cl-') ? text : `cl-${text}`;
    for (const states of [[], everyState]) {
      const ids: string[] = [];
      for await (const { id } of this.list(states)) if (id.startsWith(prefix)) ids.push(id);
      if (ids.length > 1) {
        const some = ids.slice(0, 5).join(', ');
        throw new WrennError('INVALID_FIELD', `"${text}" fits ${ids.length} sandboxes: ${some}; give more of the id`);
      }
      if (ids[0] !== undefined) return ids[0];
    }
    throw new WrennError('SANDBOX_NOT_FOUND', `no sandbox has an id like "${text}"; see \`wrenn ls\``);
  }
}

// Where another part of the mesh listens, unless something else is said.
export function besideOf(gateway: string, offset = gatewayBulkOffset): string {
  return gateway.replace(/:(\d+)$/, (_all, port: string) => `:${Number(port) + offset}`);
}

export const everyState: SandboxState[] = Object.values(SandboxState).filter((state) => state !== 0);
