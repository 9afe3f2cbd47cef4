// Clients that share no code with Wrenn, in three languages, each a process of its own: clients/README.md says
// what they do.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const MiB = 2 ** 20;
type Language = 'grpc-js' | 'Python' | 'Go';
// Larger than the guest's memory. WRENN_E2E_FILE_MIB makes it less for whoever works on a client.
const fileMib = Number(process.env['WRENN_E2E_FILE_MIB'] ?? 1024);
const mostClientBytes = 256 * MiB;
const limitMs = 600_000;
const mesh = useMesh();
const clients = join(repositoryRoot, 'tools/e2e/clients');

interface Outcome {
  readonly written: { readonly bytes: number; readonly sha256: string; readonly seconds: number };
  readonly readBack: Outcome['written'];
  readonly peakBytes: number;
}

async function run(language: Language, program: string, args: string[] = [], env: Record<string, string> = {}) {
  const { gateway, gatewayBulk } = mesh.now.mesh.addresses;
  const fileBytes = fileMib * MiB;
  const seed = `${language} ${Date.now()}`;
  const printed = await runProgram(program, [...args, gateway, gatewayBulk, String(fileBytes), seed], {
    timeoutMs: limitMs,
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root', ...env },
  });
  const outcome = JSON.parse(printed) as Outcome;
  const { written, readBack, peakBytes } = outcome;
  const rate = ({ seconds }: Outcome['written']) => `${(fileBytes / 1e6 / seconds).toFixed(0)} MB/s`;
  process.stdout.write(
    `${language}, ${seed}: up ${rate(written)}, down ${rate(readBack)}, client at most ${(peakBytes / 1e6).toFixed(0)} MB\n`,
  );
  return outcome;
}

function expectAllDone(language: Language, { written, readBack, peakBytes, ...outcome }: Outcome): void {
  expect(outcome).toEqual({
    command: {
      kinds: expect.arrayContaining(['started', 'stdout', 'stderr', 'exited']),
      stdout: 'one\n',
      stderr: 'two\n',
      exitCode: 4,
    },
    cancelledWriteCode: 1,
    left: { names: ['file'], extraKib: expect.any(Number) },
    cancelledReadCode: 1,
    state: 'SANDBOX_STATE_DESTROYED',
  });
  const { extraKib } = (outcome as unknown as { left: { extraKib: number } }).left;
  expect(extraKib).toBeLessThanOrEqual(1024); // Of a quarter of the file.
  expect(written.bytes).toBe(fileMib * MiB);
  expect({ ...readBack, seconds: 0 }).toEqual({ ...written, seconds: 0 });
  expect(peakBytes).toBeLessThan(mostClientBytes);
}

const title = (language: Language) =>
  `a ${language} client streams a command, moves ${fileMib} MiB both ways unharmed and leaves nothing of what it cancels`;

test(
  title('grpc-js'),
  async () => {
    expectAllDone('grpc-js', await run('grpc-js', process.execPath, [join(clients, 'grpc-js/client.ts')]));
  },
  limitMs,
);

test(
  title('Python'),
  async () => {
    await using dir = await tempDir();
    const python = join(repositoryRoot, '.build/venv/bin/python');
    const protoDir = join(repositoryRoot, 'proto');
    const generated = join(dir.path, 'gen');
    await mkdir(generated);
    const protos = ['sandbox', 'process', 'filesystem'].map((name) => `wrenn/v1/${name}.proto`);
    const outputs = [`--python_out=${generated}`, `--grpc_python_out=${generated}`];
    await runProgram(python, ['-m', 'grpc_tools.protoc', `-I${protoDir}`, ...outputs, ...protos]);
    expectAllDone(
      'Python',
      await run('Python', python, [join(clients, 'python/client.py')], { PYTHONPATH: generated }),
    );
  },
  limitMs,
);

test(
  title('Go'),
  async () => {
    expectAllDone('Go', await run('Go', join(repositoryRoot, '.build/go-client/bin/client')));
  },
  limitMs,
);

endsWithoutLeaks(mesh);
