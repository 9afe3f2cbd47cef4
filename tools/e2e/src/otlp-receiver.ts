// A collector of another make (clients/python/otlp_receiver.py), and the spans that it was sent.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { eventually } from '@wrenn/kit/testkit/eventually';

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly name: string;
  readonly kind: string;
  readonly service: string;
  readonly startNs: string;
  readonly endNs: string;
  readonly isError: boolean;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly events: readonly { readonly name: string }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
}

export class OtlpReceiver implements AsyncDisposable {
  readonly endpoint: string;
  readonly spans: ReceivedSpan[] = [];
  heldCount = 0; // Exports that have been held so far.
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.endpoint = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<OtlpReceiver> {
    const python = join(repositoryRoot, '.build/venv/bin/python');
    const program = join(repositoryRoot, 'tools/e2e/clients/python/otlp_receiver.py');
    const child = spawn(python, [program], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    const { port } = JSON.parse(String(first.value)) as { port: number };
    const receiver = new OtlpReceiver(child, port);
    void receiver.#take(lines); // Ends with the program.
    return receiver;
  }

  // The newest trace whose root has this name and passes, once it holds spans of all these services and no span's
  // parent is missing.
  trace(rootName: string, services: readonly string[], isIt: (root: ReceivedSpan) => boolean = () => true) {
    return eventually(
      `a whole trace of ${rootName}`,
      () => {
        const root = this.spans.findLast((span) => span.parentId === '' && span.name === rootName && isIt(span));
        const spans = this.spans.filter(({ traceId }) => traceId === root?.traceId);
        const isThere = services.every((service) => spans.some((span) => span.service === `wrenn-${service}`));
        return isThere && orphansIn(spans).length === 0 && spans;
      },
      30_000,
    );
  }

  // Answers no export until `go`.
  hold(): void {
    this.#child.stdin?.write('hold\n');
  }

  go(): void {
    this.#child.stdin?.write('go\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await ended;
  }

  async #take(lines: AsyncIterator<string>): Promise<void> {
    for (let next = await lines.next(); !next.done; next = await lines.next()) {
      const told = JSON.parse(next.value) as ReceivedSpan | { readonly held: number };
      if ('held' in told) this.heldCount = told.held;
      else this.spans.push(told);
    }
  }
}

// Spans whose parent is not among them.
export function orphansIn(spans: readonly ReceivedSpan[]): ReceivedSpan[] {
  const known = new Set(spans.map(({ spanId }) => spanId));
  return spans.filter(({ parentId }) => parentId !== '' && !known.has(parentId));
}

// How much of the root's time is explained: a step is, and what an rpc takes beyond its server's side was spent on the
// way, which its client's span says. So what counts against it is time that a server spent outside of its steps.
export function explainedShare(spans: readonly ReceivedSpan[]): number {
  const [from, to] = rootRange(spans);
  const left = gapsIn(spans).reduce((sum, [start, end]) => sum + end - start, 0);
  return 1 - left / (to - from);
}

// The rest: when, for how long, and within what.
export function unexplained(spans: readonly ReceivedSpan[]): string {
  const [from] = rootRange(spans);
  const ms = (us: number) => (us / 1000).toFixed(1);
  const lines = gapsIn(spans).map(([start, end]) => {
    const around = spans.filter((span) => rangeOf(span)[0] <= start && rangeOf(span)[1] >= end);
    const names = around.map(({ service, name, kind }) => `${service} ${name} ${kind.replace('SPAN_KIND_', '')}`);
    return `${ms(start - from)} ms: ${ms(end - start)} ms in ${names.join(', ')}`;
  });
  return [`nothing explains of ${ms(rootRange(spans)[1] - from)} ms:`, ...lines].join('\n');
}

function gapsIn(spans: readonly ReceivedSpan[]): Range[] {
  const children = Map.groupBy(spans, ({ parentId }) => parentId);
  const explained = spans
    .filter((span) => !children.has(span.spanId) || span.kind !== 'SPAN_KIND_SERVER')
    .flatMap((span) => without(rangeOf(span), (children.get(span.spanId) ?? []).map(rangeOf)));
  return without(rootRange(spans), explained);
}

function rootRange(spans: readonly ReceivedSpan[]): Range {
  const root = spans.find(({ parentId }) => parentId === '');
  if (!root) throw new Error('a trace without a root');
  return rangeOf(root);
}

type Range = [from: number, to: number];

// Microseconds; a double holds them.
function rangeOf({ startNs, endNs }: ReceivedSpan): Range {
  return [Number(BigInt(startNs) / 1000n), Number(BigInt(endNs) / 1000n)];
}

function without([from, to]: Range, covered: readonly Range[]): Range[] {
  const left: Range[] = [];
  let at = from;
  for (const [start, end] of covered.toSorted(([a], [b]) => a - b)) {
    if (start > at) left.push([at, Math.min(start, to)]);
    at = Math.max(at, end);
  }
  if (at < to) left.push([at, to]);
  return left;
}
