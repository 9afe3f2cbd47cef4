// Traces as a collector of another make gets them.
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Telemetry, startTelemetry } from '@wrenn/kit/telemetry/start';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { startBrowser, visit } from '../src/browser.ts';
import { type Guest } from '../src/guest.ts';
import { TestMesh } from '../src/mesh.ts';
import { OtlpReceiver, type ReceivedSpan, explainedShare, orphansIn, unexplained } from '../src/otlp-receiver.ts';
import { ownPlace } from '../src/place.ts';
import { Terminal, newTerminal } from '../src/terminal.ts';
import { Zipkin } from '../src/zipkin.ts';
import { endsWithoutLeaks } from '../src/use-mesh.ts';

const failpointFile = join(tmpdir(), `wrenn-traces-${process.pid}`);
const slowMs = 120_000; // Less than a test may take, so that it says what it waited for.
const muchBytes = 65_536;
// A terminal that is not raw throws away what it has no room for.
const noReader = 'stty raw -echo; echo raw; sleep 600';
const large = { width: 1400, height: 1000 };
const canary = 'canary-5d1f';
const mainServices = ['e2e', 'gateway', 'scheduler', 'vm-runtime', 'snapshot-store'];

let receiver: OtlpReceiver;
let telemetry: Telemetry;
let mesh: TestMesh;
let guest: Guest;
let bystander: Guest; // Beside it, on the same lane.
let pause: ReceivedSpan[] = []; // The last one.

beforeAll(async () => {
  receiver = await OtlpReceiver.start();
  const env = { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint };
  telemetry = startTelemetry('e2e', env); // A trace begins with its client.
  await writeFile(failpointFile, '');
  mesh = await TestMesh.start({ place: ownPlace(), templates: ['minimal'], failpointFile, env });
  guest = await mesh.create('minimal');
});

afterAll(async () => {
  await mesh?.close();
  await telemetry?.close().catch(() => undefined); // What comes last is not looked at.
  await rm(failpointFile, { force: true });
  await receiver?.[Symbol.asyncDispose]();
});

const isAboutGuest = ({ attributes }: ReceivedSpan) => attributes['wrenn.sandbox.id'] === guest.id;
const msOf = ({ startNs, endNs }: ReceivedSpan) => Number(BigInt(endNs) - BigInt(startNs)) / 1e6;

function named(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const found = spans.find((span) => span.name === name);
  if (!found) throw new Error(`no span ${name} among ${spans.map((span) => span.name).join(', ')}`);
  return found;
}

async function figuresOf(service: 'gateway' | 'vm-runtime'): Promise<string> {
  return (await fetch(`http://${mesh.mesh.addresses.metrics[service]}/metrics`)).text();
}

// How many of a histogram's observations are up to a bound, of all threads.
function bucketsOf(text: string, metric: string, label = ''): (bound: string) => number {
  const counts = new Map<string, number>();
  for (const [, labels = '', count] of text.matchAll(new RegExp(`^${metric}_bucket\\{(.*)\\} (\\d+)$`, 'gm'))) {
    const bound = /le="([^"]+)"/.exec(labels)?.[1] ?? '';
    if (labels.includes(label)) counts.set(bound, (counts.get(bound) ?? 0) + Number(count));
  }
  return (bound) => counts.get(bound) ?? Number.NaN;
}

const traceOf = (spans: readonly ReceivedSpan[]) => spans[0]?.traceId ?? '';
const pausesSeen = new Set<string>();

// Pauses the guest; its trace is that of no pause before.
async function pauseGuest(): Promise<ReceivedSpan[]> {
  await guest.pause();
  const isNew = (root: ReceivedSpan) => isAboutGuest(root) && !pausesSeen.has(root.traceId);
  pause = await receiver.trace('wrenn.v1.SandboxService/Pause', mainServices, isNew);
  pausesSeen.add(traceOf(pause));
  return pause;
}

test('a create is one trace through every service, down to the slot and the disk', async () => {
  const create = await receiver.trace('wrenn.v1.SandboxService/Create', [...mainServices, 'network']);
  expect(named(create, 'network').attributes).toHaveProperty(['wrenn.slot']);
  expect(named(create, 'disk').attributes).toHaveProperty(['wrenn.memory.bytes']);
  for (const step of ['queue', 'place', 'vmm', 'boot', 'init', 'take slot']) named(create, step);
  expect(create.every(({ isError }) => !isError)).toBe(true);
});

test('the trace of a pause is complete, and explains 95 % of the time that it took', async () => {
  await pauseGuest();
  expect(orphansIn(pause)).toEqual([]);
  expect(pause.filter(({ parentId }) => parentId === '')).toHaveLength(1);
  for (const step of ['claim', 'prepare', 'quiesce', 'stop', 'device state', 'journal', 'record']) named(pause, step);
  expect(named(await releaseOfPause(), 'stage').attributes).toMatchObject({
    'wrenn.snapshot.generation': 0,
    'wrenn.snapshot.type': 'full',
  });
  expect(named(pause, 'guest agent: freeze').attributes).toEqual({ 'wrenn.reported_by': 'guest agent' });
  expect(pause.flatMap(({ events }) => events.map(({ name }) => name))).toContain('state changed');
  // A machine that is busy elsewhere lets a process stand still anywhere: what no step accounts for comes every time.
  const pauses = [pause];
  while (pauses.length < 5 && !pauses.some((spans) => explainedShare(spans) >= 0.95)) {
    await guest.resume();
    pauses.push(await pauseGuest());
  }
  expect(Math.max(...pauses.map(explainedShare)), pauses.map(unexplained).join('\n')).toBeGreaterThanOrEqual(0.95);
});

test(
  'a tracing UI of another make shows the pause, with every span under its parent',
  { timeout: 3 * slowMs },
  async () => {
    const traceId = traceOf(pause);
    await using zipkin = await Zipkin.start(mesh.mesh.options.ports.gateway + 61);
    await zipkin.take(pause);
    const kept = await eventually('it has all of it', async () => {
      const spans = await zipkin.trace(traceId);
      return spans.length === pause.length && spans;
    });
    const known = new Set(kept.map(({ id }) => id));
    expect(kept.filter(({ parentId }) => parentId !== undefined && !known.has(parentId))).toEqual([]);
    const browser = await startBrowser();
    try {
      await visit(browser, 'zipkin-pause', (page) => look(page, zipkin.pageOf(traceId), pause.length), large);
    } finally {
      await browser.close();
    }
  },
);

async function look(page: Page, url: string, spanCount: number): Promise<void> {
  await page.goto(url);
  const text = page.locator('body');
  await eventually('it is drawn', async () => (await text.innerText()).includes('sandboxservice/pause'), slowMs);
  expect((await text.innerText()).replaceAll(/\s+/g, ' ')).toContain(`Total Spans ${spanCount} `);
}

// What a pause left to do behind its answer: its span is linked to that of the pause.
function isBehindPause(span: ReceivedSpan): boolean {
  const traceId = traceOf(pause);
  return isAboutGuest(span) && span.links.some((link) => link.traceId === traceId);
}

const releaseOfPause = () =>
  receiver.trace('release frozen vm', ['vm-runtime', 'network', 'snapshot-store'], isBehindPause);

test('what goes on behind a pause has traces of its own, linked to it', async () => {
  const release = await releaseOfPause();
  for (const step of ['stage', 'take memory', 'take disk']) named(release, step);
  expect(release[0]?.traceId).not.toBe(traceOf(pause));
  const isOfStaging = (span: ReceivedSpan) =>
    isAboutGuest(span) && span.links.some(({ traceId }) => traceId === traceOf(release));
  const commit = await receiver.trace('commit', ['snapshot-store'], isOfStaging);
  expect(named(commit, 'write memory').attributes['wrenn.memory.pages']).toBeGreaterThan(0);
  for (const step of ['copy state', 'add disk layer', 'seal', 'write manifest', 'publish']) named(commit, step);
});

test('a disk that is slow shows as the step that waited for it', async () => {
  await guest.resume();
  await guest.sh('echo more > /root/more; sync');
  await writeFile(failpointFile, 'store.snapshot.stage-disk-taken=delay:400');
  await pauseGuest();
  const release = await releaseOfPause();
  await writeFile(failpointFile, '');
  named(pause, 'dump'); // Only of what was restored: its pages that are not in the snapshot before.
  const took = named(release, 'take disk');
  expect(msOf(took)).toBeGreaterThan(399);
  expect(took.service).toBe('wrenn-snapshot-store');
  expect(msOf(named(release, 'take memory'))).toBeLessThan(msOf(took));
  expect(Math.max(...pause.map(msOf))).toBeLessThan(msOf(took)); // No pause waits for it.
});

test('an event loop that is held up shows on every call that it held up, and in its histogram', async () => {
  await guest.resume();
  bystander = await mesh.create('minimal');
  await writeFile(failpointFile, 'vm.freeze.begun=block:500');
  const calls = Array.from({ length: 20 }, () => bystander.sh('true'));
  await Promise.all([pauseGuest(), ...calls]);
  await writeFile(failpointFile, '');
  const held = ({ attributes, service, name }: ReceivedSpan) =>
    name === 'wrenn.v1.ProcessService/Exec' &&
    service === 'wrenn-vm-runtime' &&
    Number(attributes['wrenn.event_loop.delay_ms']) > 200;
  await eventually('a command says so', () => receiver.spans.some(held), slowMs);
  const delays = bucketsOf(await figuresOf('vm-runtime'), 'wrenn_process_event_loop_delay_seconds');
  expect(delays('+Inf')).toBeGreaterThan(delays('0.25'));
});

test('bytes that nobody takes show on the calls that share their lane, and not on those of another', async () => {
  await guest.resume();
  const start = { sandboxId: guest.id, terminal: newTerminal('deaf', 'sh', '-c', noReader) };
  await using deaf = new Terminal(mesh.client, start);
  await deaf.until('raw');
  for (let n = 0; n < 128; n++) void deaf.type(new Uint8Array(2 ** 18)).catch(() => undefined);
  const isBehind = ({ service, kind, name, attributes }: ReceivedSpan) =>
    service === 'wrenn-gateway' &&
    kind === 'SPAN_KIND_CLIENT' &&
    name === 'wrenn.v1.ProcessService/Exec' &&
    Number(attributes['wrenn.lane.unsent_bytes']) > muchBytes &&
    Number(attributes['wrenn.lane.in_flight']) > 1;
  await eventually(
    'a command says what stands before it',
    async () => {
      await bystander.sh('true');
      return receiver.spans.some(isBehind);
    },
    slowMs,
  );
  await bystander.destroy();
  const onControl = receiver.spans.filter(({ attributes }) => attributes['wrenn.lane'] === 'control');
  expect(onControl.length).toBeGreaterThan(20);
  expect(onControl.every(({ attributes }) => Number(attributes['wrenn.lane.unsent_bytes']) < muchBytes)).toBe(true);
  const figures = await figuresOf('gateway');
  const [ofCommands, ofOthers] = ['interactive', 'control'].map((lane) =>
    bucketsOf(figures, 'wrenn_rpc_unsent_bytes', `lane="${lane}"`),
  );
  expect(ofCommands?.('+Inf')).toBeGreaterThan(ofCommands?.(String(muchBytes)) ?? 0);
  expect(ofOthers?.('+Inf')).toBe(ofOthers?.(String(muchBytes)));
});

test('a collector that answers nobody delays no call, and gets their spans when it does', async () => {
  receiver.hold();
  const before = receiver.heldCount;
  await eventually(
    'exports of both wait',
    async () => {
      await guest.sh('true');
      return receiver.heldCount >= before + 2;
    },
    slowMs,
  );
  const seen = receiver.spans.length;
  for (let n = 0; n < 20; n++) await guest.sh('true');
  await guest.pause();
  await guest.resume();
  expect(receiver.spans).toHaveLength(seen); // All of that was done while it answered nobody.
  receiver.go();
  const isLater = (span: ReceivedSpan) => isAboutGuest(span) && receiver.spans.indexOf(span) >= seen;
  await receiver.trace('wrenn.v1.SandboxService/Pause', mainServices, isLater);
});

test('nothing that belongs to a guest or its owner is in any span', async () => {
  const options = { env: { SECRET: `${canary}-env` }, stdin: `${canary}-stdin`, cwd: '/tmp' };
  await guest.sh(`cat > /root/${canary}-path; echo ${canary}-output; test "$SECRET"`, options);
  await guest.exec(`${canary}-command`, [`${canary}-argument`]).catch(() => undefined);
  await guest.destroy();
  await receiver.trace('wrenn.v1.SandboxService/Destroy', ['gateway', 'scheduler', 'vm-runtime'], isAboutGuest);
  expect(receiver.spans.length).toBeGreaterThan(200);
  expect(JSON.stringify(receiver.spans)).not.toContain(canary);
});

endsWithoutLeaks({
  get now() {
    return mesh;
  },
});
