// Autobahn's cases for WebSockets, against a server that others wrote, straight and through the edge: it must make
// no difference to any of them. See docs/decisions/0007-edge-splices-bytes.md.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { thorough } from '@wrenn/kit/testkit/dice';
import { expect, test } from 'vitest';

import { guestAddress, startEdge } from './edge.ts';

const python = join(import.meta.dirname, '../../../.build/venv/bin/python');
const program = (name: string) => join(import.meta.dirname, 'autobahn', name);
const limitMs = 300_000;
// Of each case of compression; they ask for 1,000.
const messages = thorough(3);

type Verdict = readonly [behaviour: string, atClose: string];

// A case that asks a server to be stricter than it must be goes one way or the other by how frames fall together.
const withoutStrictness = (verdict: Verdict) => verdict.join(', ').replace('NON-STRICT', 'OK');

test('gives every case the verdict that it has without the edge', { timeout: limitMs }, async () => {
  await using edge = await startEdge();
  const echo = spawn(python, [program('echo.py'), guestAddress], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    await once(echo, 'spawn');
    const [told] = (await once(echo.stdout, 'data')) as [Buffer];
    const port = Number(told.toString());
    const urls = [`ws://${guestAddress}:${port}/`, `ws://127.0.0.1:${edge.port}/proxy/${edge.sandboxId}/${port}/`];
    const report = await runProgram(python, [program('run-cases.py'), String(messages), ...urls], {
      timeoutMs: limitMs,
    });
    const verdicts = Object.entries(JSON.parse(report) as Record<string, [straight: Verdict, through: Verdict]>);
    expect(verdicts).toHaveLength(517);
    const differing = verdicts.filter(
      ([, [straight, through]]) => withoutStrictness(straight) !== withoutStrictness(through),
    );
    expect(differing).toEqual([]);
    const failing = verdicts.filter(([, [straight]]) => ['FAILED', 'UNIMPLEMENTED'].includes(straight[0]));
    expect(failing.map(([id]) => id)).toEqual(['7.1.5']); // A close code of that server's own choice.
  } finally {
    echo.kill();
  }
});
