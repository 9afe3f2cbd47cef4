// Runs every suite. The very last line says how many tests passed and failed; a suite that ran no test, or could not
// run, counts as one failure, so a green line always means that tests ran.
import { type Lane, stages } from './suites.ts';
import { runSuite, type Outcome } from './run-suite.ts';

async function runLane(lane: Lane, isLive: boolean): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const suite of lane) outcomes.push(await runSuite(suite, isLive));
  return outcomes;
}

const outcomes: Outcome[] = [];
for (const lanes of await stages()) {
  const done = await Promise.all(lanes.map((lane, index) => runLane(lane, index === 0)));
  outcomes.push(...done.flat());
}

process.stdout.write('\n');
for (const { title, failures } of outcomes)
  for (const failure of failures) process.stdout.write(`FAILED ${title}: ${failure}\n`);
for (const { title, passed, failed, ms } of outcomes)
  process.stdout.write(`${title.padEnd(22)} ${passed} passed, ${failed} failed in ${(ms / 1000).toFixed(1)} s\n`);
const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed, 0);
process.exitCode = failed === 0 ? 0 : 1;
process.stdout.write(`${passed} passed, ${failed} failed\n`);
