// What last changed a thing, for linking to it from what that brings about much later. Of this life only, and of a
// bounded number of things: a link that is missing costs nobody anything.
import type { SpanContext } from '@opentelemetry/api';

import { currentCause } from './span.ts';

const maxKept = 10_000;

export class Causes {
  readonly #causes = new Map<string, SpanContext>();

  // The span that goes on now changed it.
  note(key: string): void {
    const cause = currentCause();
    if (!cause) return;
    this.#causes.delete(key);
    this.#causes.set(key, cause);
    if (this.#causes.size <= maxKept) return;
    for (const oldest of this.#causes.keys()) {
      this.#causes.delete(oldest);
      return;
    }
  }

  of(key: string): SpanContext | undefined {
    return this.#causes.get(key);
  }
}
