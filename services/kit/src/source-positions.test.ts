import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { withSourcePositions } from './source-positions.ts';

test('positions of a file with a map are those of its sources; all else is left as it is', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'wrenn-map-'));
  try {
    const file = join(dir, 'main.js');
    // Its second line, third column, is line 5, column 7 of the source; no other line has one.
    await writeFile(`${file}.map`, '{"version":3,"sources":["../src/a.ts"],"names":[],"mappings":";EAIM"}');
    await writeFile(join(dir, 'broken.js.map'), '{');
    const stack = (first: string) =>
      [`Error: at ${dir}`, `    at run (${first})`, `    at file://${file}:9:1`, `    at ${dir}/broken.js:2:3`].join(
        '\n',
      );
    expect(withSourcePositions(stack(`${file}:2:3`))).toBe(stack(join(dir, '../src/a.ts:5:7')));
    expect(withSourcePositions(stack(`file://${file}:2:9`))).toBe(stack(join(dir, '../src/a.ts:5:7')));
    const unmapped = stack('node:internal/process/task_queues:103:5');
    expect(withSourcePositions(unmapped)).toBe(unmapped);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
