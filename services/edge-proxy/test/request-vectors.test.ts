// What clients send, against what another parser, node's, finds in what the edge passes on: the number of requests,
// their bounds and their bodies must be those that the edge answered.
import { thorough } from '@wrenn/kit/testkit/dice';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { rawClient, startEdge } from './edge.ts';
import { type RecordingGuest, startRecordingGuest } from './recording-guest.ts';
import { brokenBodies, requestVectors } from './request-vectors.ts';

let edge: Awaited<ReturnType<typeof startEdge>>;
let guest: RecordingGuest;

beforeAll(async () => {
  edge = await startEdge();
  guest = await startRecordingGuest();
});

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
  await edge[Symbol.asyncDispose]();
});

function sendAll(bytes: string): Promise<string> {
  const client = rawClient(edge.port);
  const text = bytes.replaceAll('{p}', `/proxy/${edge.sandboxId}/${guest.port}`);
  // Whoever is refused early may be cut while it still sends.
  client.socket.end(Buffer.from(text, 'latin1'));
  return client.closed;
}

const statusesOf = (answers: string) =>
  (answers.match(/^HTTP\/1\.1 \d{3}/gm) ?? []).map((line) => Number(line.slice(9)));

test.each(requestVectors)('$name: $statuses', async ({ bytes, statuses, seen }) => {
  const found = statusesOf(await sendAll(bytes));
  expect({ statuses: found, seen: guest.takeSeen(), errors: guest.takeErrors() }).toEqual({
    statuses,
    seen,
    errors: [],
  });
});

test.each(brokenBodies)('%s: 400, and the guest sees neither an end of it nor what is behind', async (_name, bytes) => {
  const statuses = statusesOf(await sendAll(bytes));
  expect({ statuses, seen: guest.takeSeen(), errors: guest.takeErrors() }).toEqual({
    statuses: [400],
    seen: [],
    errors: [],
  });
});

// Bytes changed, lost, doubled and mixed at random, but the same ones in every run.
test(
  'of requests broken at random the guest sees what was answered, and never a malformed one',
  async () => {
    const rounds = thorough(1500);
    const atOnce = 50;
    const random = numbersFrom(20_261_128);
    const sources = [...requestVectors.map(({ bytes }) => bytes), ...brokenBodies.map(([, bytes]) => bytes)].filter(
      (bytes) => bytes.length < 2000,
    );
    const statuses = new Map<number, number>();
    for (let round = 0; round < rounds; round += atOnce) {
      const batch = Array.from({ length: atOnce }, () => mutated(sources, random));
      const answers = await Promise.all(batch.map(sendAll));
      const answered = answers.reduce((sum, text) => sum + text.split('X-From: guest').length - 1, 0);
      const told = `round ${round}: ${JSON.stringify(batch)}`;
      const seen = guest.takeSeen();
      // The answer to a request may be lost with its connection, as when a malformed one follows it.
      expect(answered, told).toBeLessThanOrEqual(seen.length);
      const complete = answers.flatMap((text) => statusesOf(text));
      expect(seen.length, told).toBeLessThanOrEqual(complete.filter((status) => status !== 400).length);
      expect(guest.takeErrors(), told).toEqual([]);
      for (const status of complete) statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    // It is worth something only if both sides of the line were tried.
    expect(statuses.get(200)).toBeGreaterThan(75);
    expect(statuses.get(400)).toBeGreaterThan(200);
  },
  thorough(120_000),
);

const pieces = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  ',',
  ';',
  '0',
  '5',
  'chunked',
  'Content-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Connection: close\r\n',
  '\x80',
  '{p}',
  ' HTTP/1.1',
];

function mutated(sources: readonly string[], random: (below: number) => number): string {
  let bytes = sources[random(sources.length)]!;
  for (let change = random(3); change >= 0; change--) {
    const at = random(bytes.length);
    const length = random(8);
    const other = sources[random(sources.length)]!;
    const changes = [
      () => bytes.slice(0, at) + String.fromCharCode(random(256)) + bytes.slice(at + 1),
      () => bytes.slice(0, at) + bytes.slice(at + length),
      () => bytes.slice(0, at) + bytes.slice(at, at + length) + bytes.slice(at),
      () => bytes.slice(0, at) + pieces[random(pieces.length)]! + bytes.slice(at),
      () => bytes.slice(0, at) + other.slice(random(other.length)),
      () => bytes + other,
    ];
    bytes = changes[random(changes.length)]!();
  }
  return bytes;
}

function numbersFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
}
