// Files of a real guest, through gateway, host and agent, and by signed URLs through the edge.
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { FileChangeType, FileType, FilesystemService, UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';
import { beforeAll, describe, expect, test } from 'vitest';

import { GuestFiles, messagesOf, sha256 } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';
import { verdictOf } from '../src/wire.ts';

const MiB = 2 ** 20;
const memoryMiB = 96;
const largeMiB = 100;
const mesh = useMesh({ templates: ['debian', 'minimal'] });
let guest: Guest;
let files: GuestFiles;
let soonOver: { url: string; expiresAtS: number };
beforeAll(async () => {
  guest = await mesh.now.create('debian');
  files = new GuestFiles(mesh.now, guest);
  await guest.sh('mkdir -m 777 /tmp/t && echo 0 > /tmp/soon-over');
  soonOver = await signed('/tmp/soon-over', UrlOperation.READ, 1000);
});

const root = { user: 'root' };
const asRoot = (script: string) => guest.sh(script, root);

async function signed(path: string, operation: UrlOperation, ttlMs: number, user = '') {
  const request = { ...files.at(path, user), operation, ttl: durationOfMs(ttlMs) };
  const { url, expiresAt } = await mesh.now.client.files.signUrl(request, inMs(10_000));
  return { url, expiresAtS: Number(expiresAt?.seconds) };
}

const changeName = (type: number) => Object.entries(FileChangeType).find(([, value]) => value === type)?.[0];

// Open files of the agent, and its threads: what a transfer that is over must not keep.
async function agentHolds(): Promise<{ descriptors: number; threads: number }> {
  const counts = await asRoot('ls /proc/1/fd | wc -l; ls /proc/1/task | wc -l');
  const [descriptors = 0, threads = 0] = counts.split('\n').map(Number);
  return { descriptors, threads };
}

describe('bytes', () => {
  test.each([0, 1, 256 * 1024, 256 * 1024 + 1, 2 ** 21])('%d of them come back as they went', async (count) => {
    const bytes = randomBytes(count);
    const entry = await files.write('/tmp/t/bytes', [bytes]);
    expect(entry).toMatchObject({ path: '/tmp/t/bytes', type: FileType.FILE, sizeBytes: BigInt(count) });
    const { opened, byteCount, sha256: got } = await files.digest('/tmp/t/bytes');
    expect({ size: opened.sizeBytes, byteCount, got }).toEqual({
      size: BigInt(count),
      byteCount: count,
      got: sha256(bytes),
    });
    expect(await guest.sh('sha256sum < /tmp/t/bytes')).toBe(`${sha256(bytes)}  -`);
  });

  test('a part is read from where it is asked for, also beyond 4 GiB, and nothing beyond the end', async () => {
    const size = 5 * 2 ** 30;
    await guest.sh(`truncate -s ${size} /tmp/t/sparse && printf 0123456789 >> /tmp/t/sparse`);
    const end = BigInt(size);
    expect(await files.text('/tmp/t/sparse', { offset: end + 2n })).toBe('23456789');
    expect(await files.text('/tmp/t/sparse', { offset: end - 2n, length: 5n })).toBe('\0\x00012');
    expect(await files.text('/tmp/t/sparse', { offset: end + 10n })).toBe('');
    expect((await files.stat('/tmp/t/sparse')).sizeBytes).toBe(end + 10n);
    await files.remove('/tmp/t/sparse');
  });

  test(`a file of ${largeMiB} MiB goes into a guest of ${memoryMiB} MiB and comes out again, while commands run`, async () => {
    const small = await mesh.now.create('minimal', { memoryBytes: BigInt(memoryMiB * MiB) });
    const filesOfSmall = new GuestFiles(mesh.now, small);
    const piece = randomBytes(MiB);
    const hash = createHash('sha256');
    function* pieces() {
      for (let i = 0; i < largeMiB; i++) {
        const next = Buffer.from(piece);
        next.writeUInt32LE(i);
        hash.update(next);
        yield next;
      }
    }
    const write = filesOfSmall.write('/srv/large', pieces());
    expect(await small.sh('echo meanwhile')).toBe('meanwhile');
    expect((await write)?.sizeBytes).toBe(BigInt(largeMiB * MiB));
    const read = filesOfSmall.digest('/srv/large');
    expect(await small.sh('echo meanwhile')).toBe('meanwhile');
    expect(await read).toMatchObject({ byteCount: largeMiB * MiB, sha256: hash.digest('hex') });
    await small.destroy();
  });

  test('a reader who leaves half-way leaves nothing open in the guest', async () => {
    await guest.sh('truncate -s 200M /tmp/t/half');
    const before = await agentHolds();
    for (let turn = 0; turn < 5; turn++) {
      const leave = new AbortController();
      const pieces = files.pieces('/tmp/t/half', {}, leave.signal);
      await pieces.next();
      await pieces.next();
      leave.abort();
      expect(await reasonOf(Array.fromAsync(pieces))).toBe('CANCELLED');
    }
    await eventually('it is as before', async () => {
      const { descriptors, threads } = await agentHolds();
      return descriptors <= before.descriptors && threads <= before.threads;
    });
    await files.remove('/tmp/t/half');
  });
});

describe('a write', () => {
  const listing = async () => (await files.list('/tmp/t/once')).map(({ name, sizeBytes }) => `${name} ${sizeBytes}`);

  test('is seen whole or not at all: the old content stays until the new has come', async () => {
    await files.writeText('/tmp/t/once/file', 'old');
    const gate = Promise.withResolvers<void>();
    async function* slowly() {
      yield Buffer.alloc(MiB, 'n');
      await gate.promise;
      yield Buffer.alloc(MiB, 'n');
    }
    const write = files.write('/tmp/t/once/file', slowly());
    await eventually('the first half is in the guest', async () => (await files.draftBytes()) >= MiB);
    expect(await files.text('/tmp/t/once/file')).toBe('old');
    expect(await listing()).toEqual(['file 3']);
    gate.resolve();
    await write;
    expect(await listing()).toEqual([`file ${2 * MiB}`]);
  });

  test.each(['a file that is there', 'a new one'])('that is given up never shows: %s', async (which) => {
    const path = which === 'a new one' ? '/tmp/t/once/new' : '/tmp/t/once/file';
    const before = await listing();
    const leave = new AbortController();
    async function* half() {
      yield Buffer.alloc(MiB, 'x');
      await new Promise((resolve) => leave.signal.addEventListener('abort', resolve));
    }
    const reason = reasonOf(files.write(path, half(), { signal: leave.signal }));
    await eventually('half of it is in the guest', async () => (await files.draftBytes()) >= MiB);
    leave.abort();
    expect(await reason).toBe('CANCELLED');
    await eventually('the guest has dropped it', async () => (await files.draftBytes()) === 0);
    expect(await listing()).toEqual(before);
  });

  test('without its end is refused, and what was sent is no file', async () => {
    const start = { part: { case: 'start' as const, value: { ...files.at('/tmp/t/once/endless'), mode: 0 } } };
    const data = { part: { case: 'data' as const, value: Buffer.from('half') } };
    const verdict = await verdictOf(
      mesh.now.mesh.addresses.gatewayBulk,
      FilesystemService.method.write,
      { part: start.part },
      { part: data.part },
    );
    expect(verdict).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', meta: { field: 'finish' } });
    expect(await reasonOf(files.stat('/tmp/t/once/endless'))).toBe('PATH_NOT_FOUND');
  });

  test('of many at once leaves one of them whole', async () => {
    const contents = Array.from({ length: 8 }, () => randomBytes(300_000));
    await Promise.all(contents.map((content) => files.write('/tmp/t/raced', [content])));
    const { sha256: got } = await files.digest('/tmp/t/raced');
    expect(contents.map(sha256)).toContain(got);
    expect((await files.list('/tmp/t')).filter(({ name }) => name.startsWith('.'))).toEqual([]);
  });
});

describe('owners and permissions', () => {
  test('a new file belongs to who writes it, with the mode asked for or 0644, and so do directories made for it', async () => {
    const made = await files.writeText('/tmp/t/own/below/plain', 'x');
    expect(made).toMatchObject({ owner: 'user', group: 'user', mode: 0o644 });
    expect(await files.stat('/tmp/t/own')).toMatchObject({ owner: 'user', mode: 0o755, type: FileType.DIRECTORY });
    const script = await files.writeText('/tmp/t/own/run', '#!/bin/sh\necho ran', { mode: 0o750 });
    expect(script?.mode).toBe(0o750);
    expect(await guest.sh('/tmp/t/own/run')).toBe('ran');
    expect(await files.writeText('/root/of-root', 'x', root)).toMatchObject({ owner: 'root', group: 'root' });
  });

  test('a file that is replaced keeps owner and mode, unless a mode is asked for', async () => {
    await guest.sh('echo mine > /tmp/t/kept && chmod 640 /tmp/t/kept');
    expect(await files.writeText('/tmp/t/kept', 'by root', root)).toMatchObject({ owner: 'user', mode: 0o640 });
    expect(await files.writeText('/tmp/t/kept', 'again', { mode: 0o600 })).toMatchObject({ mode: 0o600 });
    expect(await guest.sh('cat /tmp/t/kept')).toBe('again');
  });

  test('a link is written through, and stays one', async () => {
    await guest.sh('echo old > /tmp/t/target && ln -sf target /tmp/t/link');
    await files.writeText('/tmp/t/link', 'through');
    expect(await guest.sh('cat /tmp/t/target; readlink /tmp/t/link')).toBe('throughtarget');
  });

  test.each([
    ['write where it may not', () => files.writeText('/etc/mine', 'x')],
    ['write a file that is read-only to it', () => files.writeText('/etc/hostname', 'x')],
    ['read what is not its own', () => files.text('/etc/shadow')],
    ['list a directory that is closed to it', () => files.list('/root')],
    ['remove what others own', () => files.remove('/etc/passwd')],
  ])('a user may not %s', async (_what, attempt) => {
    expect(await reasonOf(attempt())).toBe('PATH_NOT_PERMITTED');
  });
});

describe('a directory', () => {
  test('is listed as deep as asked, sorted by path, links named and not entered', async () => {
    await guest.sh('cd /tmp/t && mkdir -p tree/a/b/c && touch tree/a/f tree/a/b/c/g && ln -s .. tree/a/up');
    const paths = async (depth: number) =>
      (await files.list('/tmp/t/tree', depth)).map(({ path }) => path.slice('/tmp/t/tree/'.length));
    expect(await paths(1)).toEqual(['a']);
    expect(await paths(2)).toEqual(['a', 'a/b', 'a/f', 'a/up']);
    expect(await paths(64)).toEqual(['a', 'a/b', 'a/b/c', 'a/b/c/g', 'a/f', 'a/up']);
    const up = (await files.list('/tmp/t/tree/a')).find(({ name }) => name === 'up');
    expect(up?.symlinkTarget).not.toBe('');
  });

  test('that is too large for one answer is refused, not cut', async () => {
    const script = `
import os
path = '/tmp/t/many' + ('/' + 'x' * 250) * 5
os.makedirs(path)
os.chdir(path)
for i in range(2500): open(f'{i:0250}', 'w').close()`;
    expect((await guest.exec('python3', ['-c', script])).err).toBe('');
    const deep = `/tmp/t/many${`/${'x'.repeat(250)}`.repeat(5)}`;
    expect(await reasonOf(files.list(deep))).toBe('TOO_MANY_ENTRIES');
    await files.remove('/tmp/t/many');
  });

  test('is made with its parents, moved and removed with all it holds', async () => {
    const { client } = mesh.now;
    const made = await client.files.makeDir(files.at('/tmp/t/deep/er'), inMs(10_000));
    expect(made.entry).toMatchObject({ path: '/tmp/t/deep/er', type: FileType.DIRECTORY, owner: 'user' });
    expect(await reasonOf(client.files.makeDir(files.at('/tmp/t/deep/er'), inMs(10_000)))).toBe('PATH_EXISTS');
    await files.writeText('/tmp/t/deep/er/file', 'x');
    const move = { sandboxId: guest.id, source: '/tmp/t/deep', destination: '/tmp/t/moved/here' };
    const moved = await client.files.move(move, inMs(10_000));
    expect(moved.entry?.path).toBe('/tmp/t/moved/here');
    expect(await files.text('/tmp/t/moved/here/er/file')).toBe('x');
    const inside = { sandboxId: guest.id, source: '/tmp/t/moved', destination: '/tmp/t/moved/here/moved' };
    expect(await reasonOf(client.files.move(inside, inMs(10_000)))).toBe('MOVE_REFUSED');
    await files.remove('/tmp/t/moved');
    await files.remove('/tmp/t/moved');
    expect(await reasonOf(files.stat('/tmp/t/moved'))).toBe('PATH_NOT_FOUND');
  });

  test('tells what changes in it, below it too where asked, also in directories made later', async () => {
    const leave = new AbortController();
    const watch = async (isRecursive: boolean) => {
      const request = { ...files.at('/tmp/t/watched'), isRecursive };
      const parts = mesh.now.client.files.watch(request, { signal: leave.signal })[Symbol.asyncIterator]();
      expect((await parts.next()).value?.part.case).toBe('started');
      const seen: string[] = [];
      const ended = (async () => {
        for await (const { part } of { [Symbol.asyncIterator]: () => parts }) {
          if (part.case === 'change') seen.push(`${changeName(part.value.type)} ${part.value.path}`);
        }
      })();
      return { seen, reason: reasonOf(ended) };
    };
    await guest.sh('mkdir -p /tmp/t/watched/there');
    const [all, one] = await Promise.all([watch(true), watch(false)]);
    await guest.sh('cd /tmp/t/watched && mkdir -p new/er && echo x > new/er/file && chmod 600 there && rm -r new');
    await eventually('the end is told', () => all.seen.includes('REMOVED new') && one.seen.includes('REMOVED new'));
    const told = ['CREATED new', 'CREATED new/er', 'CREATED new/er/file', 'REMOVED new/er/file', 'REMOVED new'];
    expect(all.seen).toEqual(expect.arrayContaining([...told, 'MODE_CHANGED there']));
    expect(one.seen.every((line) => !line.includes('/'))).toBe(true);
    leave.abort();
    expect([await all.reason, await one.reason]).toEqual(['CANCELLED', 'CANCELLED']);
  });
});

describe('what is no file to work with is refused with a reason', () => {
  const { stat, list, read, makeDir, watch, signUrl } = FilesystemService.method;
  const long = `/${'x'.repeat(4095)}`;
  const bad = { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' };
  const missing = { code: 'NOT_FOUND', reason: 'PATH_NOT_FOUND' };
  const notDirectory = { code: 'FAILED_PRECONDITION', reason: 'NOT_A_DIRECTORY' };
  test.each([
    ['an empty path', stat, { path: '' }, { ...bad, meta: { field: 'path' } }],
    ['a path of 4096 bytes', stat, { path: long }, { ...bad, meta: { field: 'path' } }],
    ['a NUL', stat, { path: '/tmp/a\0b' }, { ...bad, meta: { field: 'path' } }],
    ['a name of 256 bytes', stat, { path: `/tmp/${'x'.repeat(256)}` }, bad],
    ["another user's home", stat, { path: '~root/x' }, { ...bad, meta: { field: 'path' } }],
    ['a user name that is none', stat, { path: '/', user: 'a b' }, { ...bad, meta: { field: 'user' } }],
    ['an unknown user', stat, { path: '/', user: 'stranger' }, { code: 'INVALID_ARGUMENT', reason: 'USER_NOT_FOUND' }],
    ['a depth of 65', list, { path: '/', depth: 65 }, { ...bad, meta: { field: 'depth' } }],
    ['a path to nothing', stat, { path: '/tmp/t/nothing' }, missing],
    ['a path through a file', stat, { path: '/etc/hostname/x' }, missing],
    ['`..` that leads to nothing', read, { path: '/tmp/../nothing/../etc/hostname' }, missing],
    ['a file to read that is not there', read, { path: '/tmp/t/nothing' }, missing],
    ['a directory to read', read, { path: '/etc' }, { code: 'FAILED_PRECONDITION', reason: 'IS_A_DIRECTORY' }],
    ['a file to list', list, { path: '/etc/hostname' }, notDirectory],
    ['a file to watch', watch, { path: '/etc/hostname' }, notDirectory],
    ['nothing to watch', watch, { path: '/tmp/t/nothing' }, missing],
    ['a directory below a file', makeDir, { path: '/etc/hostname/x', user: 'root' }, notDirectory],
    ['a loop of links', read, { path: '/tmp/t/loop' }, bad],
    ['an URL for nothing in particular', signUrl, { path: '/a' }, { ...bad, meta: { field: 'operation' } }],
    [
      'an URL for longer than a day',
      signUrl,
      { path: '/a', operation: UrlOperation.READ, ttl: durationOfMs(86_401_000) },
      { ...bad, meta: { field: 'ttl' } },
    ],
  ])('%s', async (what, method, request, verdict) => {
    if (what === 'a loop of links') await guest.sh('ln -s loop /tmp/t/loop');
    const { gateway, gatewayBulk } = mesh.now.mesh.addresses;
    const address = method === read ? gatewayBulk : gateway;
    expect(await verdictOf(address, method, { sandboxId: guest.id, ...request })).toMatchObject(verdict);
  });

  test.each([
    ['a directory', { path: '/tmp' }, { code: 'FAILED_PRECONDITION', reason: 'IS_A_DIRECTORY' }],
    ['a path below a file', { path: '/tmp/soon-over/x' }, notDirectory],
    ['a device', { path: '/dev/null', user: 'root' }, bad],
    ['a mode beyond 0777', { path: '/tmp/x', mode: 0o1000 }, { ...bad, meta: { field: 'mode' } }],
  ])('to write %s', async (_what, start, verdict) => {
    const messages = await Array.fromAsync(messagesOf({ ...files.at(start.path), mode: 0, ...start }, []));
    const address = mesh.now.mesh.addresses.gatewayBulk;
    expect(await verdictOf(address, FilesystemService.method.write, ...messages)).toMatchObject(verdict);
  });

  test('`..` is walked as the kernel does, never past the root', async () => {
    expect(await files.text('/tmp/t/../../etc/hostname')).toBe(
      await guest.sh('cat /etc/hostname; true').then((t) => `${t}\n`),
    );
    expect((await files.stat('/../../../etc')).path).toMatch(/etc$/);
  });
});

test(
  'a directory that turns into a link while its tree is removed leads nobody out of it',
  { timeout: 240_000 },
  async () => {
    // As fast as it can: a directory and a link to a precious one change places. A link that was removed is made anew.
    const swapper = `
import ctypes, os, shutil
libc = ctypes.CDLL(None)
place, aside = '/tmp/t/race/dir', '/tmp/t/race-aside'
os.symlink('/precious', aside)
swaps = os.open('/tmp/t/swaps', os.O_CREAT | os.O_WRONLY)
while True:
    try:
        os.makedirs(place + '/sub', exist_ok=True)
        open(place + '/sub/file', 'w').close()
        if not os.path.islink(place) and not os.path.islink(aside):
            shutil.rmtree(aside)
            os.symlink('/precious', aside)
    except OSError: pass
    if libc.renameat2(-100, place.encode(), -100, aside.encode(), 2) == 0: os.write(swaps, b'.')`;
    await asRoot('mkdir -p /precious/sub && touch /precious/sub/file /precious/file && chmod -R a+rwX /precious');
    const process = { command: 'python3', args: ['-c', swapper] };
    const { processes } = mesh.now.client;
    const events = processes.start({ sandboxId: guest.id, process, tag: 'swapper' })[Symbol.asyncIterator]();
    await events.next();
    const swapCount = async () => Number((await files.stat('/tmp/t/swaps')).sizeBytes);
    await eventually('it swaps', async () => (await swapCount()) > 0, 60_000);
    const endMs = Date.now() + 180_000;
    // How many swaps fall into a turn is the machine's affair: it is a race once there were enough of them.
    for (let turn = 0; turn < 40 || ((await swapCount()) < 100 && Date.now() < endMs); turn++) {
      await files
        .remove('/tmp/t/race', 'root')
        .catch((error: Error) => expect(error.message).not.toContain('precious'));
      const seen = await files.list('/tmp/t/race', 5, 'root').catch(() => []);
      expect(seen.filter(({ path }) => !path.startsWith('/tmp/t/race/'))).toEqual([]);
    }
    const target = { sandboxId: guest.id, process: { selector: { case: 'tag', value: 'swapper' } } } as const;
    await processes.signal({ ...target, signal: 9 }, inMs(10_000));
    expect(await swapCount()).toBeGreaterThanOrEqual(100);
    expect(await asRoot('cd /precious && find . -type f | sort')).toBe('./file\n./sub/file');
  },
);

test('a full disk is told as such, keeps the old file, and is well again once there is room', async () => {
  await files.writeText('/tmp/t/before', 'old');
  await asRoot(`
    fallocate -l $(($(stat -fc %a /) * $(stat -fc %S /) - 32 * 1024 * 1024)) /filler
    dd if=/dev/zero of=/filler-rest bs=1M 2> /dev/null
    truncate -s -2M /filler-rest`);
  const large = Array.from({ length: 8 }, () => Buffer.alloc(MiB, 'x'));
  const messages = await Array.fromAsync(messagesOf({ ...files.at('/tmp/t/before', 'root'), mode: 0 }, large));
  const address = mesh.now.mesh.addresses.gatewayBulk;
  const full = { code: 'RESOURCE_EXHAUSTED', reason: 'GUEST_DISK_FULL' };
  expect(await verdictOf(address, FilesystemService.method.write, ...messages)).toMatchObject(full);
  const { url } = await signed('/tmp/t/before', UrlOperation.WRITE, 60_000, 'root');
  const posted = await fetch(url, { method: 'POST', body: Buffer.concat(large) });
  expect({ status: posted.status, text: await posted.text() }).toMatchObject({
    status: 507,
    text: expect.stringContaining('NO_SPACE_LEFT') as string,
  });
  expect(await files.text('/tmp/t/before')).toBe('old');
  await asRoot('rm /filler /filler-rest');
  await files.write('/tmp/t/before', large);
  expect((await files.stat('/tmp/t/before')).sizeBytes).toBe(BigInt(8 * MiB));
});

describe('a signed URL', () => {
  const path = '/tmp/t/signed file+ü%.bin';

  test('puts a file and fetches it, whole and in parts, for whoever has it', async () => {
    const bytes = randomBytes(5_000_000);
    const put = await signed(path, UrlOperation.WRITE, 60_000);
    expect((await fetch(put.url, { method: 'POST', body: bytes })).status).toBe(200);
    expect(await files.stat(path)).toMatchObject({ sizeBytes: 5_000_000n, owner: 'user' });
    const { url } = await signed(path, UrlOperation.READ, 60_000);
    const got = await fetch(url);
    expect(sha256(await got.bytes())).toBe(sha256(bytes));
    expect(got.headers.get('content-disposition')).toContain('attachment');
    const part = await fetch(url, { headers: { Range: 'bytes=1000-1999' } });
    expect(part.status).toBe(206);
    expect(Buffer.compare(await part.bytes(), bytes.subarray(1000, 2000))).toBe(0);
    const head = await fetch(url, { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe('5000000');
  });

  test('is good for one file, one operation, one user, and only as signed', async () => {
    const { url } = await signed(path, UrlOperation.READ, 60_000);
    const changed = (name: string, value: string) => {
      const other = new URL(url);
      other.searchParams.set(name, value);
      return other.href;
    };
    const wrong = [
      changed('path', '/etc/passwd'),
      changed('username', 'root'),
      changed('signature_expiration', '4102444800'),
      changed('signature', `v1_${'A'.repeat(43)}`),
      url.replace('/proxy/', '/proxy//'),
    ];
    const answers = await Promise.all(wrong.map((one) => fetch(one)));
    expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404, 404]);
    expect((await fetch(url, { method: 'POST', body: 'x' })).status).toBe(404);
    // Nothing else of the agent is open, whatever is signed.
    expect((await fetch(url.replace('/files?', '/process.Process/List?'))).status).toBe(404);
    expect((await fetch(url.replace(/signature=[^&]*&/, ''))).status).toBe(404);
    expect((await files.stat(path)).sizeBytes).toBe(5_000_000n);
  });

  test('has the rights of its user, and says why not', async () => {
    const { url } = await signed('/etc/shadow', UrlOperation.READ, 60_000);
    const answer = await fetch(url);
    expect({ status: answer.status, text: await answer.text() }).toMatchObject({
      status: 403,
      text: expect.stringContaining('PATH_NOT_PERMITTED') as string,
    });
    const ofRoot = await signed('/etc/shadow', UrlOperation.READ, 60_000, 'root');
    expect((await fetch(ofRoot.url)).status).toBe(200);
  });

  test('of an upload that breaks off leaves the old file', async () => {
    await files.writeText(path, 'old');
    const { url } = await signed(path, UrlOperation.WRITE, 60_000);
    const { host, hostname, port, pathname, search } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined).resume();
    socket.write(`POST ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 2000000\r\n\r\n`);
    socket.write(Buffer.alloc(MiB, 'n'));
    await eventually('half of it is in the guest', async () => (await files.draftBytes()) > 0);
    socket.destroy();
    await eventually('the guest has dropped it', async () => (await files.draftBytes()) === 0);
    expect(await files.text(path)).toBe('old');
    expect((await files.list('/tmp/t')).filter(({ name }) => name.startsWith('.'))).toEqual([]);
  });

  test('works until it is over, and not after', async () => {
    const { url, expiresAtS } = soonOver;
    const late = await eventually('it is refused', async () => {
      const answer = await fetch(url);
      return answer.status !== 200 && answer;
    });
    expect(late.status).toBe(401);
    expect(await late.text()).toContain('expired');
    expect(Date.now() / 1000).toBeGreaterThan(expiresAtS);
  });
});

endsWithoutLeaks(mesh);
