// Everything a tool can hold without running the system. All steps run; each says how it went and how long it took.
import { checks } from './checks.ts';
import { runChecks } from './run-checks.ts';

process.exitCode = (await runChecks(await checks())) ? 0 : 1;
