import { expect, test } from 'vitest';

import { ActivityReport } from './activity-report.ts';
import { openLog } from './log.ts';
import { eventually } from './testkit/eventually.ts';

function reporter(send?: (ids: string[]) => Promise<void>, everyMs = 20) {
  const reports: string[][] = [];
  const report = new ActivityReport({
    async send(ids) {
      reports.push(ids);
      await send?.(ids);
    },
    log: openLog('test', 'silent'),
    everyMs,
  });
  return { report, reports };
}

test('tells of the first use at once, whatever the time between reports', async () => {
  const { report, reports } = reporter(undefined, 60_000);
  report.use('a');
  await eventually('it was told', () => reports.length === 1, 5000);
  expect(reports).toEqual([['a']]);
  report.close();
});

test('tells of what is in use again and again, until it is not, and once more at its end', async () => {
  const { report, reports } = reporter();
  {
    using _use = report.use('a');
    await eventually('it was told often', () => reports.length >= 4);
  }
  const atEnd = reports.length;
  {
    // Something else that is told of shows that time went on.
    using _other = report.use('b');
    await eventually('many more', () => reports.length >= atEnd + 5);
  }
  expect(reports.slice(atEnd + 2).flat()).not.toContain('a');
  expect(reports[atEnd]).toContain('a');
  report.close();
});

test('tells of a connection only while its bytes move', async () => {
  const { report, reports } = reporter();
  let bytes = 0;
  using _quiet = report.use('quiet', () => bytes);
  using _busy = report.use('busy');
  await eventually('the quiet one is told of no more', () => reports.length >= 5);
  expect(reports.filter((ids) => ids.includes('quiet'))).toHaveLength(1);
  bytes = 1;
  await eventually('it is told of again', () => reports.filter((ids) => ids.includes('quiet')).length === 2);
  report.close();
});

test('keeps one report on its way at a time and gathers meanwhile', async () => {
  const gate = Promise.withResolvers<void>();
  const { report, reports } = reporter(() => gate.promise);
  report.use('a')[Symbol.dispose]();
  await eventually('the first is on its way', () => reports.length === 1);
  for (const id of ['b', 'c', 'b']) report.use(id)[Symbol.dispose]();
  gate.resolve();
  await eventually('the second came', () => reports.length === 2);
  expect(reports[1]).toEqual(['b', 'c']);
  report.close();
});

test('goes on after a report that failed, and splits what is too much for one', async () => {
  let failures = 0;
  const { report, reports } = reporter(async () => {
    if (failures++ === 0) throw new Error('nobody there');
  });
  report.use('lost')[Symbol.dispose]();
  await eventually('it failed', () => failures === 1);
  for (let i = 0; i < 2500; i++) report.use(`id-${i}`)[Symbol.dispose]();
  await eventually('all were told', () => reports.flat().length >= 2501);
  expect(Math.max(...reports.map((ids) => ids.length))).toBe(1000);
  report.close();
});
