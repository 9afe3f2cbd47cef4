// The contracts against those of main: a change that breaks a client is found before it is merged.
import { mkdir } from 'node:fs/promises';
import { ProgramError, runProgram } from '@wrenn/kit/run-program';
import type { Check } from './run-checks.ts';

const snapshot = '.build/check/contracts.tar';

// Nothing to compare with (a first commit, a clone of depth 1) is said and is no failure.
export async function protoBreaking(): Promise<Check[]> {
  const base = await baseCommit((...args) => runProgram('git', args));
  if (!base) {
    process.stdout.write('note proto breaking: not checked, this clone holds no earlier commit to compare with\n');
    return [];
  }
  await mkdir('.build/check', { recursive: true });
  await runProgram('git', ['archive', '--format=tar', `--output=${snapshot}`, base, 'buf.yaml', 'proto']);
  return [
    {
      name: `proto breaking against ${base.slice(0, 10)}`,
      command: ['buf', 'breaking', '--against', snapshot],
      explain: explainBuf,
    },
  ];
}

export function explainBuf(exitCode: number): string | undefined {
  return exitCode === 100 ? 'the change breaks clients' : 'buf itself failed';
}

export type Git = (...args: string[]) => Promise<string>;

// Where this work left main; on main itself, what was pushed last or else the parent.
export async function baseCommit(git: Git): Promise<string | undefined> {
  const head = await tryGit(git, 'rev-parse', '--verify', '--quiet', 'HEAD');
  for (const branch of ['origin/main', 'main']) {
    const base = await tryGit(git, 'merge-base', 'HEAD', branch);
    if (base && base !== head) return base;
  }
  return await tryGit(git, 'rev-parse', '--verify', '--quiet', 'HEAD^');
}

// git exits with 1 or 128 for what a clone does not hold.
async function tryGit(git: Git, ...args: string[]): Promise<string | undefined> {
  try {
    return (await git(...args)).trim() || undefined;
  } catch (error) {
    if (error instanceof ProgramError) return undefined;
    throw error;
  }
}
