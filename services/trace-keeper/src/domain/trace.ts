// One trace as far as its spans have come. They come in any order and from many processes.
import { type KeptSpan, weightOf } from './kept-span.ts';

const maxSpans = 5000;
const maxSandboxIds = 16;
const sandboxKey = 'wrenn.sandbox.id';

export class Trace {
  readonly id: string;
  readonly spans: KeptSpan[] = [];
  readonly sandboxIds = new Set<string>();
  bytes = 0;
  errorCount = 0;
  startUs = Infinity;
  endUs = -Infinity;
  #head: KeptSpan | undefined;

  constructor(id: string) {
    this.id = id;
  }

  // Its root; its earliest span while that has not come.
  get head(): KeptSpan {
    if (!this.#head) throw new Error(`trace ${this.id} has no span`);
    return this.#head;
  }

  // What it weighs more; 0: it has as many spans as it may.
  add(span: KeptSpan): number {
    if (this.spans.length >= maxSpans) return 0;
    const bytes = weightOf(span);
    this.spans.push(span);
    this.bytes += bytes;
    if (span.isError) this.errorCount += 1;
    this.startUs = Math.min(this.startUs, span.startUs);
    this.endUs = Math.max(this.endUs, span.startUs + span.durationUs);
    if (!this.#head || leads(span, this.#head)) this.#head = span;
    const sandboxId = span.attributes[sandboxKey];
    if (sandboxId !== undefined && this.sandboxIds.size < maxSandboxIds) this.sandboxIds.add(sandboxId);
    return bytes;
  }
}

function leads(span: KeptSpan, head: KeptSpan): boolean {
  const isRoot = span.parentId === '';
  return isRoot === (head.parentId === '') ? span.startUs < head.startUs : isRoot;
}
