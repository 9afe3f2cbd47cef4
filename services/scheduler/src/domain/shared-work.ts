// Work on a sandbox that all its callers share: whoever comes meanwhile gets the same result, and it goes on
// when they leave.
import type { SandboxId } from '@wrenn/kit/ids';
import { type SpanContext, currentCause, linkTo } from '@wrenn/kit/telemetry/span';

import { whileCalled } from './while-called.ts';

export class SharedWork<T> {
  readonly #running = new Map<SandboxId, { readonly work: Promise<T>; readonly trace: SpanContext | undefined }>();

  has(id: SandboxId): boolean {
    return this.#running.has(id);
  }

  // Joins what is in progress, or begins.
  join(id: SandboxId, begin: () => Promise<T>): Promise<T> {
    const running = this.#running.get(id);
    if (running) {
      linkTo(running.trace);
      return running.work;
    }
    const work = begin().finally(() => this.#running.delete(id));
    this.#running.set(id, { work, trace: currentCause() });
    work.catch(() => undefined); // Those who wait hear of it; all may have left by then.
    return work;
  }

  run(id: SandboxId, begin: () => Promise<T>, caller: AbortSignal, farewell: string): Promise<T> {
    return whileCalled(this.join(id, begin), caller, farewell);
  }
}
