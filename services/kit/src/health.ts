import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '@wrenn/proto/grpc/health/v1/health';
import { ServerError, Status } from 'nice-grpc-common';

import type { RpcHandlers } from './rpc-server.ts';

type Serving = 'SERVING' | 'NOT_SERVING';

// grpc.health.v1 for the services of one server; the empty name stands for the whole server.
export class Health {
  readonly service = HealthService;
  readonly #serving = new Map<string, Serving>([['', 'NOT_SERVING']]);
  #changed = Promise.withResolvers<void>();
  #hasEnded = false;

  // Of the whole server.
  get isServing(): boolean {
    return this.#serving.get('') === 'SERVING';
  }

  set(service: string, serving: Serving): void {
    this.#serving.set(service, serving);
    this.#wake();
  }

  setAll(serving: Serving): void {
    for (const service of this.#serving.keys()) this.#serving.set(service, serving);
    this.#wake();
  }

  endWatches(): void {
    this.#hasEnded = true;
    this.#wake();
  }

  handlers(): RpcHandlers<typeof HealthService.method> {
    return {
      check: async ({ service }) => {
        const status = this.#statusOf(service);
        if (status === ServingStatus.SERVICE_UNKNOWN) {
          throw new ServerError(Status.NOT_FOUND, `unknown service ${JSON.stringify(service.slice(0, 200))}`);
        }
        return { status };
      },
      list: async () => {
        const statuses = [...this.#serving.keys()].map((name) => [name, { status: this.#statusOf(name) }] as const);
        return { statuses: Object.fromEntries(statuses) };
      },
      watch: ({ service }, { signal }) => this.#watch(service ?? '', signal),
    };
  }

  async *#watch(service: string, signal: AbortSignal) {
    let told: ServingStatus | undefined;
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    while (!signal.aborted) {
      const status = this.#statusOf(service);
      const changed = this.#changed.promise;
      if (status !== told) yield { status };
      told = status;
      if (this.#hasEnded) return;
      await Promise.race([changed, aborted]);
    }
  }

  #statusOf(service: string | undefined): ServingStatus {
    const serving = this.#serving.get(service ?? '');
    return serving === undefined ? ServingStatus.SERVICE_UNKNOWN : ServingStatus[serving];
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
