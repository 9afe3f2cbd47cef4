// The last traces, bounded in bytes and number. What goes first is the oldest trace of the name that takes most: a
// flood of commands pushes out commands, and not the one pause that somebody wants to look at.
import { WrennError, invalidField } from '@wrenn/kit/errors';

import type { KeptSpan } from './kept-span.ts';
import { Trace } from './trace.ts';

export interface BookLimits {
  readonly maxBytes: number;
  readonly maxTraces: number;
}

export interface TraceQuery {
  readonly sandboxId: string; // Empty: any.
  readonly name: string; // A part of the root's name. Empty: any.
  readonly limit: number;
}

interface Group {
  readonly traces: Set<Trace>; // The oldest first.
  bytes: number;
}

export class TraceBook {
  readonly #limits: BookLimits;
  readonly #traces = new Map<string, Trace>();
  readonly #groups = new Map<string, Group>();
  readonly #spans = { taken: 0, dropped: 0 };
  #bytes = 0;

  constructor(limits: BookLimits) {
    this.#limits = limits;
  }

  get size(): { readonly traces: number; readonly bytes: number } {
    return { traces: this.#traces.size, bytes: this.#bytes };
  }

  // Since the start.
  get spans(): { readonly taken: number; readonly dropped: number } {
    return this.#spans;
  }

  add(spans: readonly KeptSpan[]): void {
    for (const span of spans) this.#addOne(span);
    while (this.#bytes > this.#limits.maxBytes || this.#traces.size > this.#limits.maxTraces) this.#dropOne();
  }

  // Newest first.
  list({ sandboxId, name, limit }: TraceQuery): Trace[] {
    const fits = (trace: Trace) =>
      (sandboxId === '' || trace.sandboxIds.has(sandboxId)) && trace.head.name.includes(name);
    return [...this.#traces.values()]
      .filter(fits)
      .toSorted((a, b) => b.startUs - a.startUs)
      .slice(0, limit);
  }

  // By its id or the beginning of it. Throws TRACE_NOT_FOUND; INVALID_FIELD when several begin like that.
  get(prefix: string): Trace {
    const exact = this.#traces.get(prefix);
    if (exact) return exact;
    const [found, other] = [...this.#traces.keys()].filter((id) => id.startsWith(prefix));
    if (other !== undefined) throw invalidField('trace_id', 'several traces begin like that');
    const trace = found === undefined ? undefined : this.#traces.get(found);
    if (!trace) throw new WrennError('TRACE_NOT_FOUND', `no trace ${prefix} is kept`);
    return trace;
  }

  #addOne(span: KeptSpan): void {
    const known = this.#traces.get(span.traceId);
    const trace = known ?? new Trace(span.traceId);
    const nameBefore = known?.head.name;
    const bytes = trace.add(span);
    this.#spans[bytes > 0 ? 'taken' : 'dropped'] += 1;
    this.#traces.set(trace.id, trace);
    this.#bytes += bytes;
    const { name } = trace.head;
    if (nameBefore !== undefined && nameBefore !== name) this.#leave(nameBefore, trace, trace.bytes - bytes);
    const group = this.#groups.get(name) ?? { traces: new Set(), bytes: 0 };
    this.#groups.set(name, group);
    group.bytes += group.traces.has(trace) ? bytes : trace.bytes;
    group.traces.add(trace);
  }

  #leave(name: string, trace: Trace, bytes: number): void {
    const group = this.#groups.get(name);
    if (!group) return;
    group.traces.delete(trace);
    group.bytes -= bytes;
    if (group.traces.size === 0) this.#groups.delete(name);
  }

  #dropOne(): void {
    let largest: Group | undefined;
    for (const group of this.#groups.values()) if (!largest || group.bytes > largest.bytes) largest = group;
    const [oldest] = largest?.traces ?? [];
    if (!oldest) throw new Error('nothing is kept and yet too much');
    this.#traces.delete(oldest.id);
    this.#bytes -= oldest.bytes;
    this.#leave(oldest.head.name, oldest, oldest.bytes);
  }
}
