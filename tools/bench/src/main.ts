// `make bench`: measures, prints a table, writes .bench/results.json. An argument picks the rows whose
// id contains it. Exit code 1 when a goal is missed.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { table } from '@wrenn/cli/output/table';
import { interruptedCode, runWithMeshes } from '@wrenn/e2e/run-with-meshes';
import { TestMesh } from '@wrenn/e2e/mesh';
import { writeDurably } from '@wrenn/kit/durable-file';

import { breadthExec } from './breadth-exec.ts';
import { breadthFiles } from './breadth-files.ts';
import { edgeHttp } from './edge-http.ts';
import { edgeTerminal } from './edge-terminal.ts';
import { describeMachine } from './machine.ts';
import type { Row } from './measurement.ts';
import { snapshotGaps } from './snapshot-gaps.ts';
import { snapshotSizes } from './snapshot-sizes.ts';
import { snapshotSources } from './snapshot-sources.ts';
import { snapshotDiff, snapshotFork, snapshotTemplate } from './snapshot-uses.ts';
import { spineCreate, spineExec } from './spine.ts';
import { tracing } from './tracing.ts';

// Beside another run on the machine it names its own first slot, as the end-to-end tests do.
const firstSlot = Number(process.env['WRENN_E2E_FIRST_SLOT'] ?? 20_100);
// The slots behind these are for meshes that a measurement runs beside it.
const place = { firstSlot, lastSlot: firstSlot + 31 };
const measurements = [
  ...[spineCreate, spineExec, breadthFiles, breadthExec, edgeHttp, edgeTerminal],
  tracing,
  ...[snapshotSizes, snapshotGaps, snapshotDiff, snapshotFork, snapshotTemplate, snapshotSources],
];
const tell = (line: string) => void process.stderr.write(`${line}\n`);

const filter = process.argv[2] ?? '';
const chosen = measurements.filter(({ ids }) => ids.some((id) => id.includes(filter)));
if (chosen.length === 0) {
  const known = measurements.flatMap(({ ids }) => ids).join(', ');
  tell(`bench: no row has "${filter}" in its id; there are ${known}`);
  process.exit(2);
}

const rows: Row[] = [];
if (!(await runWithMeshes('bench', run, tell))) process.exit(interruptedCode);
process.exit(rows.some(({ met }) => met === false) ? 1 : 0);

async function run(dataDir: string): Promise<void> {
  tell('bench: starting a mesh');
  const templates = ['minimal', 'debian'];
  await using mesh = await TestMesh.start({ place: { dataDir, ...place }, templates, logLevel: 'warn' });
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
}

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
