import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { payloadOf, unpackKernel } from './vmlinux.ts';

const kernel = Buffer.from(`\u007fELF${'what a kernel is made of; '.repeat(1000)}`);
const setupSectors = 3;
const stubBytes = 64;

// As a kernel's build puts it together: setup, the code that unpacks, the payload, and how large it will be.
function bzImageOf(packed: Buffer, tail: Buffer): Buffer {
  const setup = Buffer.alloc((1 + setupSectors) * 512);
  setup.writeUInt8(setupSectors, 0x1f1);
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(0x020f, 0x206);
  setup.writeUInt32LE(stubBytes, 0x248);
  setup.writeUInt32LE(packed.length + tail.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(stubBytes, 0xcc), packed, tail, Buffer.from('what comes behind')]);
}

test.each([
  ['lz4', ['-l']],
  ['zstd', []],
  ['xz', ['--check=crc32']],
  ['gzip', []],
])('a kernel that was packed by %s comes out as it went in', async (program, flags) => {
  await using dir = await tempDir();
  const at = (name: string): string => join(dir.path, name);
  await writeFile(at('plain'), kernel);
  await runProgram('sh', ['-c', 'exec "$@" -c <"$0" >"$0".packed', at('plain'), program, ...flags]);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(kernel.length);
  const tail = program === 'gzip' ? Buffer.alloc(0) : size;
  await writeFile(at('bzImage'), bzImageOf(await readFile(at('plain.packed')), tail));
  await unpackKernel(at('bzImage'), dir.path, at('vmlinux'));
  expect((await readFile(at('vmlinux'))).equals(kernel)).toBe(true);
});

test('says what is wrong with a file that holds no kernel', () => {
  expect(() => payloadOf(Buffer.alloc(100))).toThrow('the kernel is no bzImage');
  expect(() => payloadOf(Buffer.alloc(2000))).toThrow('the kernel is no bzImage');
  const unknown = bzImageOf(Buffer.from('1234567890'), Buffer.alloc(4));
  expect(() => payloadOf(unknown)).toThrow('packed in a way that is not known here: it begins with 31323334');
  const old = bzImageOf(Buffer.alloc(0), Buffer.alloc(0));
  old.writeUInt16LE(0x0207, 0x206);
  expect(() => payloadOf(old)).toThrow('does not say where it is packed');
});
