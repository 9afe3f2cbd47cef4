import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { baseCommit, explainBuf, type Git } from './proto-breaking.ts';

const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];

async function repository(path: string): Promise<Git> {
  await promisify(execFile)('git', ['init', '-q', '-b', 'main', path]);
  return async (...args) => (await runProgram('git', ['-C', path, ...identity, ...args])).trim();
}

const commit = async (git: Git, title: string): Promise<string> => {
  await git('commit', '-q', '--allow-empty', '-m', title);
  return await git('rev-parse', 'HEAD');
};

test('work on a branch is compared with where it left main', async () => {
  await using dir = await tempDir();
  const git = await repository(dir.path);
  const fork = await commit(git, 'on main');
  await git('checkout', '-q', '-b', 'work');
  await commit(git, 'one');
  await commit(git, 'two');
  await git('branch', '-f', 'main', fork);
  expect(await baseCommit(git)).toBe(fork);
});

test('main is compared with its parent', async () => {
  await using dir = await tempDir();
  const git = await repository(dir.path);
  const parent = await commit(git, 'one');
  await commit(git, 'two');
  expect(await baseCommit(git)).toBe(parent);
});

test('main is compared with what was pushed, if it is ahead of that', async () => {
  await using dir = await tempDir();
  const git = await repository(dir.path);
  const pushed = await commit(git, 'one');
  await git('update-ref', 'refs/remotes/origin/main', pushed);
  await commit(git, 'two');
  await commit(git, 'three');
  expect(await baseCommit(git)).toBe(pushed);
});

test('a first commit, and a repository without any, have nothing to compare with', async () => {
  await using dir = await tempDir();
  const git = await repository(dir.path);
  expect(await baseCommit(git)).toBeUndefined();
  await commit(git, 'one');
  expect(await baseCommit(git)).toBeUndefined();
});

test('a break of the contract is told apart from a failure of buf', () => {
  expect(explainBuf(100)).toMatch(/breaks clients/);
  expect(explainBuf(1)).toMatch(/buf itself/);
});
