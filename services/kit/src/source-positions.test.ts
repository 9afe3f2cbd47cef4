import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { withSourcePositions } from './source-positions.ts';
import { tempDir } from './testkit/temp-dir.ts';

test('positions of a file with a map are those of its sources; all else is left as it is', async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'main.js');
  // Its second line, third column, is line 5, column 7 of the source; no other line has one.
  await writeFile(`${file}.map`, '{"version":3,"sources":["../src/a.ts"],"names":[],"mappings":";EAIM"}');
  await writeFile(join(dir.path, 'broken.js.map'), '{');
  const broken = join(dir.path, 'broken.js');
  const stack = (first: string) =>
    [`Error: at ${dir.path}`, `    at run (${first})`, `    at file://${file}:9:1`, `    at ${broken}:2:3`].join('\n');
  const source = join(dir.path, '../src/a.ts');
  expect(withSourcePositions(stack(`${file}:2:3`))).toBe(stack(`${source}:5:7`));
  expect(withSourcePositions(stack(`file://${file}:2:9`))).toBe(stack(`${source}:5:7`));
  const unmapped = stack('node:internal/process/task_queues:103:5');
  expect(withSourcePositions(unmapped)).toBe(unmapped);
});
