// What a supervisor that was killed leaves running is found by the mark every service bears among its
// arguments: it is there from the first instant, unlike a pid that is yet to be recorded.
import { join } from 'node:path';

import { type ProcessView, endProcess, listProcesses } from '../proc.ts';

export function meshMark(runDir: string): string {
  return `--mesh=${runDir}`;
}

export function isServiceOf(runDir: string, view: ProcessView): boolean {
  return view.args.includes(meshMark(runDir)) && view.args.some((arg) => /\/src\/main\.[jt]s$/.test(arg));
}

export function databaseDir(dataDir: string): string {
  return join(dataDir, 'postgres');
}

// The postmaster; its backends have no such arguments and end with it.
export function isDatabaseOf(dataDir: string, view: ProcessView): boolean {
  const at = view.args.indexOf('-D');
  return at > 0 && view.args[at + 1] === join(databaseDir(dataDir), 'cluster');
}

// Ends services first, then the database they use. Returns what was ended.
export async function endOrphans(runDir: string, dataDir: string): Promise<ProcessView[]> {
  const views = listProcesses();
  const services = views.filter((view) => isServiceOf(runDir, view));
  const databases = views.filter((view) => isDatabaseOf(dataDir, view));
  await Promise.all(services.map((view) => endProcess(view, 10_000)));
  // SIGINT is PostgreSQL's fast shutdown: it waits for no client.
  await Promise.all(databases.map((view) => endProcess(view, 20_000, 'SIGINT')));
  return [...services, ...databases];
}
