// A tracing UI of another make, Zipkin, and what it is told: the spans that a collector got of us, in Zipkin's format.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { eventually } from '@wrenn/kit/testkit/eventually';

import type { ReceivedSpan } from './otlp-receiver.ts';

const startLimitMs = 180_000;

export interface ZipkinSpan {
  readonly traceId: string;
  readonly id: string;
  readonly parentId?: string;
  readonly name: string;
  readonly localEndpoint: { readonly serviceName: string };
}

export class Zipkin implements AsyncDisposable {
  readonly #url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
  }

  static async start(port: number): Promise<Zipkin> {
    const jar = join(repositoryRoot, '.build/zipkin/zipkin-server.jar');
    const listen = [`--armeria.ports[0].ip=127.0.0.1`, `--armeria.ports[0].port=${port}`];
    const args = ['-Xmx256m', '-jar', jar, ...listen, '--armeria.ports[0].protocols[0]=http'];
    const child = spawn('java', args, { stdio: 'ignore' });
    const zipkin = new Zipkin(child, `http://127.0.0.1:${port}`);
    const isUp = async () => child.exitCode !== null || (await fetch(`${zipkin.#url}/health`)).ok;
    await eventually('Zipkin is up, or has ended', isUp, startLimitMs);
    if (child.exitCode !== null) throw new Error(`Zipkin ended with ${child.exitCode}; is ${jar} there?`);
    return zipkin;
  }

  async take(spans: readonly ReceivedSpan[]): Promise<void> {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify(spans.map(zipkinSpan));
    const answer = await fetch(`${this.#url}/api/v2/spans`, { method: 'POST', headers, body });
    if (!answer.ok) throw new Error(`Zipkin refuses the spans: ${answer.status} ${await answer.text()}`);
  }

  async trace(traceId: string): Promise<ZipkinSpan[]> {
    const answer = await fetch(`${this.#url}/api/v2/trace/${traceId}`);
    return answer.ok ? ((await answer.json()) as ZipkinSpan[]) : [];
  }

  pageOf(traceId: string): string {
    return `${this.#url}/zipkin/traces/${traceId}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill();
    await ended;
  }
}

function zipkinSpan({ traceId, spanId, parentId, name, kind, service, startNs, endNs, ...told }: ReceivedSpan) {
  const startUs = Number(BigInt(startNs) / 1000n);
  const way = kind.replace('SPAN_KIND_', '');
  return {
    ...{ traceId, id: spanId, name },
    ...(parentId !== '' && { parentId }),
    ...((way === 'CLIENT' || way === 'SERVER') && { kind: way }),
    timestamp: startUs,
    duration: Math.max(1, Number(BigInt(endNs) / 1000n) - startUs),
    localEndpoint: { serviceName: service },
    tags: Object.fromEntries(Object.entries(told.attributes).map(([key, value]) => [key, String(value)])),
  };
}
