// `make bench`: measures, prints a table, writes .bench/results.json. An argument picks the rows whose
// id contains it. Exit code 1 when a goal is missed.
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { table } from '@wrenn/cli/output/table';
import { TestMesh } from '@wrenn/e2e/mesh';
import { writeDurably } from '@wrenn/kit/durable-file';

import { describeMachine } from './machine.ts';
import type { Row } from './measurement.ts';
import { spineCreate, spineExec } from './spine.ts';

const slots = { firstSlot: 20_100, lastSlot: 20_163 };
const measurements = [spineCreate, spineExec];
const tell = (line: string) => void process.stderr.write(`${line}\n`);

const filter = process.argv[2] ?? '';
const chosen = measurements.filter(({ ids }) => ids.some((id) => id.includes(filter)));
if (chosen.length === 0) {
  const known = measurements.flatMap(({ ids }) => ids).join(', ');
  tell(`bench: no row has "${filter}" in its id; there are ${known}`);
  process.exit(2);
}

const dataDir = await mkdtemp(join(tmpdir(), 'wrenn-bench-'));
await chmod(dataDir, 0o711); // PostgreSQL and the VMMs run as users of their own.
const rows: Row[] = [];
try {
  tell('bench: starting a mesh');
  await using mesh = await TestMesh.start({ place: { dataDir, ...slots }, templates: ['minimal'], logLevel: 'warn' });
  const machine = await describeMachine(mesh);
  for (const measurement of chosen) {
    tell(`bench: ${measurement.ids[0]}`);
    rows.push(...(await measurement.run(mesh, (line) => tell(`  ${line}`))));
  }
  const outDir = join(repositoryRoot, '.bench');
  await mkdir(outDir, { recursive: true });
  const result = { measuredAt: new Date().toISOString(), machine, rows };
  await writeDurably(join(outDir, 'results.json'), `${JSON.stringify(result, null, 2)}\n`);
  const facts = Object.entries(machine).map(([name, value]) => `${name} ${value}`);
  process.stdout.write(`${report(rows)}\n\n${facts.join(', ')}\n`);
} finally {
  await rm(dataDir, { recursive: true, force: true });
}
process.exit(rows.some(({ met }) => met === false) ? 1 : 0);

function report(all: readonly Row[]): string {
  const cells = all.map(({ id, value, unit, goal, met }) => [
    id,
    String(value),
    unit,
    goal ? `${goal.relation} ${goal.value}` : '',
    met === null ? '' : met ? 'yes' : 'NO',
  ]);
  return table(['ROW', 'VALUE', 'UNIT', 'GOAL', 'MET'], cells);
}
