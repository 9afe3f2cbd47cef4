// `wrenn cp`, `files`, `url` and `ports` as people use them, on a real sandbox: streams, exit codes, what is left.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { beforeAll, describe, expect, test } from 'vitest';

import { GuestFiles, sha256 } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { type CliOptions, runCli, startCli } from '../src/run-cli.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
let guest: Guest;
let files: GuestFiles;
beforeAll(async () => {
  guest = await mesh.now.create();
  files = new GuestFiles(mesh.now, guest);
  await guest.sh('mkdir -p /srv');
});

const env = () => ({
  WRENN_GATEWAY: mesh.now.mesh.addresses.gateway,
  WRENN_GATEWAY_BULK: mesh.now.mesh.addresses.gatewayBulk,
});
const wrenn = (args: string[], options: CliOptions = {}) => runCli(args, { ...options, env: env() });
const at = (path: string) => `${guest.id}:${path}`;
const namesIn = async (path: string) => (await files.list(path)).map(({ name }) => name);

describe.each([
  ['gRPC', [], ['SIGINT', 'SIGKILL']],
  ['signed URLs', ['--signed-url'], ['SIGTERM', 'SIGKILL']],
] as const)('cp by %s', (_how, how, signals) => {
  test('brings a file in and out again, with its bytes and its mode', async () => {
    await using dir = await tempDir();
    const bytes = randomBytes(3_000_000);
    await writeFile(join(dir.path, 'data'), bytes, { mode: 0o750 });
    expect(await wrenn(['cp', ...how, join(dir.path, 'data'), at('/srv/')])).toMatchObject({ code: 0, stdout: '' });
    expect(await files.stat('/srv/data')).toMatchObject({ sizeBytes: 3_000_000n, mode: 0o750 });
    expect(await wrenn(['cp', ...how, at('/srv/data'), join(dir.path, 'back')])).toMatchObject({ code: 0 });
    expect(sha256(await readFile(join(dir.path, 'back')))).toBe(sha256(bytes));
    expect((await stat(join(dir.path, 'back'))).mode & 0o777).toBe(0o750);
    expect(await readdir(dir.path)).toEqual(['back', 'data']);
  });

  test('copies a tree both ways, and says what it left out', async () => {
    await using dir = await tempDir();
    const tree = join(dir.path, 'tree');
    await mkdir(join(tree, 'a/empty'), { recursive: true });
    await writeFile(join(tree, 'a/one'), '1');
    await writeFile(join(tree, 'zero'), '');
    await symlink('..', join(tree, 'a/up'));
    const sent = await wrenn(['cp', '-r', ...how, tree, at('/srv/')]);
    expect(sent).toMatchObject({ code: 1, stderr: expect.stringMatching(/left out: .*a\/up/) as string });
    expect(await guest.sh('cd /srv/tree && find . | sort')).toBe('.\n./a\n./a/empty\n./a/one\n./zero');
    const got = await wrenn(['cp', '-r', ...how, at('/srv/tree'), join(dir.path, 'back')]);
    expect(got).toMatchObject({ code: 0, stderr: '' });
    expect((await readdir(join(dir.path, 'back'), { recursive: true })).toSorted()).toEqual([
      'a',
      'a/empty',
      'a/one',
      'zero',
    ]);
    await files.remove('/srv/tree');
  });

  test('a refusal tells why, fails, and leaves nothing on either side', async () => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'big'), randomBytes(8 * 2 ** 20));
    await guest.sh('mkdir -p /srv/small && (mountpoint -q /srv/small || mount -t tmpfs -o size=2m none /srv/small)');
    const full = await wrenn(['cp', ...how, join(dir.path, 'big'), at('/srv/small/big')]);
    expect(full).toMatchObject({ code: 1, stderr: expect.stringContaining('GUEST_DISK_FULL') as string });
    expect(await namesIn('/srv/small')).toEqual([]);
    await guest.sh('echo secret > /srv/closed && chmod 600 /srv/closed');
    const closed = await wrenn(['cp', ...how, '--user', 'nobody', at('/srv/closed'), join(dir.path, 'closed')]);
    expect(closed).toMatchObject({ code: 1, stderr: expect.stringContaining('PATH_NOT_PERMITTED') as string });
    const missing = await wrenn(['cp', ...how, at('/srv/missing'), join(dir.path, 'missing')]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('PATH_NOT_FOUND') as string });
    expect(await readdir(dir.path)).toEqual(['big']);
  });

  test.each(signals)('cut off by %s it leaves no half of a file', async (signal) => {
    await using dir = await tempDir();
    await guest.sh('truncate -s 300M /srv/endless; echo old > /srv/target');
    const get = startCli(['cp', ...how, at('/srv/endless'), join(dir.path, 'got')], { env: env() });
    await eventually('some of it has come', async () => {
      const [name = ''] = await readdir(dir.path);
      return name !== '' && (await stat(join(dir.path, name))).size > 0;
    });
    get.child.kill(signal);
    const ended = await get.result;
    // What is killed like that cannot clear up, but its name says what it is.
    if (signal === 'SIGKILL') expect((await readdir(dir.path)).filter((name) => name === 'got')).toEqual([]);
    else {
      expect(await readdir(dir.path)).toEqual([]);
      expect(ended).toMatchObject({ code: signal === 'SIGINT' ? 130 : 143 });
    }

    const half = startCli(['cp', ...how, '/dev/zero', at('/srv/target')], { env: env() });
    await eventually('some of it is in the guest', async () => (await files.draftBytes()) > 0, 30_000);
    half.child.kill(signal);
    await half.result;
    await eventually('the guest has dropped it', async () => (await files.draftBytes()) === 0, 20_000);
    expect(await guest.sh('cat /srv/target')).toBe('old');
    expect(await namesIn('/srv')).not.toContainEqual(expect.stringContaining('.wrenn-'));
  });
});

describe('cp', () => {
  test('that waits for its stdin ends when it is interrupted, and makes no file', async () => {
    const waiting = spawn(join(repositoryRoot, 'tools/cli/bin/wrenn'), ['cp', '-', at('/srv/never')], {
      env: { PATH: process.env['PATH'] ?? '', ...env() },
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    waiting.stdin?.write(Buffer.alloc(2 ** 20));
    await eventually('it has begun', async () => (await files.draftBytes()) > 0, 30_000);
    waiting.kill('SIGINT');
    expect(await once(waiting, 'exit')).toEqual([130, null]);
    await eventually('the guest has dropped it', async () => (await files.draftBytes()) === 0, 20_000);
    expect(await namesIn('/srv')).not.toContain('never');
  });

  test('reads stdin and writes stdout', async () => {
    const bytes = randomBytes(700_000);
    expect(await wrenn(['cp', '-', at('/srv/piped')], { stdin: bytes })).toMatchObject({ code: 0, stderr: '' });
    const back = await wrenn(['cp', at('/srv/piped'), '-']);
    expect(sha256(back.out)).toBe(sha256(bytes));
  });

  test('tells what it copied as JSON', async () => {
    const { stdout } = await wrenn(['cp', '--json', '-', at('/srv/counted')], { stdin: 'twelve bytes' });
    expect(JSON.parse(stdout)).toMatchObject({ fileCount: 1, byteCount: 12, skippedCount: 0 });
  });

  test('shows its progress on a terminal, and none elsewhere', async () => {
    await using dir = await tempDir();
    await guest.sh('head -c 30000000 /dev/zero > /srv/slow');
    const command = `${join(repositoryRoot, 'tools/cli/bin/wrenn')} cp ${at('/srv/slow')} ${join(dir.path, 'slow')}`;
    const args = ['--quiet', '--return', '--command', command, '/dev/null'];
    const shown = await runProgram('script', args, { env: { PATH: process.env['PATH'] ?? '', ...env() } });
    expect(shown).toMatch(/\/srv\/slow {2}[\d.]+ [KM]iB of 28\.6 MiB {2}\d+ % .* left .*\/s/);
    expect(shown).toMatch(/1 file, 28\.6 MiB in [\d.]+ s/);
  });
});

describe('files', () => {
  test('makes, lists, describes, moves and removes', async () => {
    expect(await wrenn(['files', 'mkdir', at('/srv/made/here')])).toMatchObject({
      code: 0,
      stdout: '/srv/made/here\n',
    });
    await guest.sh('printf 12345 > /srv/made/here/file; ln -s nowhere /srv/made/link; chmod 4755 /srv/made/here/file');
    const listed = await wrenn(['files', 'ls', at('/srv/made'), '--depth', '2']);
    expect(listed.stdout).toMatch(/^drwxr-xr-x +root +root .* here$/m);
    expect(listed.stdout).toMatch(/^-rwsr-xr-x +root +root +5 B .* here\/file$/m);
    expect(listed.stdout).toMatch(/^lrwxrwxrwx .* link -> nowhere$/m);
    const lines = (await wrenn(['files', 'ls', at('/srv/made'), '--json'])).stdout.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { path: string }).path)).toEqual([
      '/srv/made/here',
      '/srv/made/link',
    ]);
    expect((await wrenn(['files', 'stat', at('/srv/made/here/file')])).stdout).toMatch(/^mode +-rwsr-xr-x \(4755\)$/m);
    const moved = await wrenn(['files', 'mv', at('/srv/made/here'), '/srv/made/there']);
    expect(moved).toMatchObject({ code: 0, stdout: '/srv/made/there\n' });
    expect(await wrenn(['files', 'rm', at('/srv/made')])).toMatchObject({ code: 0, stdout: '' });
    expect(await wrenn(['files', 'rm', at('/srv/made')])).toMatchObject({ code: 0 });
    const gone = await wrenn(['files', 'stat', at('/srv/made')]);
    expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining('PATH_NOT_FOUND') as string });
  });

  test('watch prints changes as they happen, below the directory too', async () => {
    const watching = startCli(['files', 'watch', '-r', '--json', at('/srv')], { env: env() });
    let out = '';
    watching.child.stdout?.on('data', (data: Buffer) => (out += data.toString()));
    let told = '';
    watching.child.stderr?.on('data', (data: Buffer) => (told += data.toString()));
    await eventually('it watches', () => told.includes('watching /srv'));
    await guest.sh('mkdir -p /srv/new && echo x > /srv/new/file');
    await eventually('the file is told', () => out.includes('"new/file"'));
    watching.child.kill('SIGINT');
    await watching.result;
  });
});

test('url prints what fetches and puts one file', async () => {
  const put = await wrenn(['url', '--write', '--ttl', '1m', at('/srv/by-url')]);
  expect((await fetch(put.stdout.trim(), { method: 'POST', body: 'by url' })).status).toBe(200);
  const get = await wrenn(['url', '--json', at('/srv/by-url')]);
  const { url, expiresAt } = JSON.parse(get.stdout) as { url: string; expiresAt: string };
  expect(await (await fetch(url)).text()).toBe('by url');
  expect(Math.abs(Date.parse(expiresAt) - Date.now() - 900_000)).toBeLessThan(60_000);
});

test('ports lists what is served and where it is bound, and nothing when nothing is', async () => {
  expect(await wrenn(['ports', guest.id])).toMatchObject({ code: 0, stdout: '', stderr: 'no port is served\n' });
  await guest.sh('httpd -p 8000 -h /srv; httpd -p 127.0.0.1:8001 -h /srv');
  const listed = await eventually('both are told', async () => {
    const { stdout } = await wrenn(['ports', guest.id]);
    return stdout.includes('8001') && stdout;
  });
  expect(listed).toMatch(/^8000 +all addresses$/m);
  expect(listed).toMatch(/^8001 +loopback, forwarded by the agent$/m);
  const { stdout } = await wrenn(['ports', '--json', guest.id]);
  expect(stdout).toBe('{"port":8000,"isLoopbackOnly":false}\n{"port":8001,"isLoopbackOnly":true}\n');
});

test('failures say what is wrong and have codes of their own', async () => {
  const cases: (readonly [string[], number, RegExp])[] = [
    [['cp', at('/etc'), '/tmp/x'], 2, /is a directory; copy it with -r/],
    [['cp', at('/etc/passwd'), '/tmp/no-such-dir/'], 2, /is no directory here/],
    [['cp', 'cl-zzzz:/etc/passwd', '-'], 1, /SANDBOX_NOT_FOUND/],
    [['cp', '/etc/hostname', at('/etc/passwd/x')], 1, /NOT_A_DIRECTORY/],
    [['files', 'ls', at('/etc/passwd')], 1, /NOT_A_DIRECTORY/],
    [['files', 'stat', at('/'), '--user', 'a b'], 2, /user: must be a user name/],
    [['url', '--ttl', '25h', at('/srv/x')], 2, /ttl/],
    [['ports', '--gateway', '127.0.0.1:1', guest.id], 69, /does not answer at 127\.0\.0\.1:1/],
  ];
  const results = await Promise.all(cases.map(([args]) => wrenn(args)));
  for (const [i, [args, code, message]] of cases.entries()) {
    expect(results[i]?.stderr, args.join(' ')).toMatch(message);
    expect(results[i]?.code, args.join(' ')).toBe(code);
  }
});

endsWithoutLeaks(mesh);
