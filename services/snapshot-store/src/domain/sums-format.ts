// `memfile.<build id>.sums` and `workingset`, byte by byte as docs/formats.md has them.
import { crc32 } from 'node:zlib';

const sumsMagic = 'WRNMEMS1';
const workingSetMagic = 'WRNWSET1';
const maxWorkingSetBlocks = 2 ** 22;

export function encodeSums(sums: Uint32Array): Buffer {
  const bytes = Buffer.alloc(16 + 4 * sums.length + 4);
  bytes.write(sumsMagic, 'latin1');
  bytes.writeBigUInt64LE(BigInt(sums.length), 8);
  writeNumbers(bytes, 16, sums);
  return bytes;
}

// Throws an Error unless these are the sums of a file of `storedBlocks` blocks.
export function decodeSums(bytes: Buffer, storedBlocks: number): Uint32Array {
  const isOfSize = bytes.length === 16 + 4 * storedBlocks + 4 && bytes.toString('latin1', 0, 8) === sumsMagic;
  if (!isOfSize || bytes.readBigUInt64LE(8) !== BigInt(storedBlocks)) {
    throw new Error('the checksums are corrupt: they are not those of this build');
  }
  const sums = readNumbers(bytes, 16, storedBlocks);
  if (!sums) throw new Error('the checksums are corrupt: their own checksum is wrong');
  return sums;
}

export function encodeWorkingSet(blocks: readonly number[]): Buffer {
  const bytes = Buffer.alloc(12 + 4 * blocks.length + 4);
  bytes.write(workingSetMagic, 'latin1');
  bytes.writeUInt32LE(blocks.length, 8);
  writeNumbers(bytes, 12, Uint32Array.from(blocks));
  return bytes;
}

// Undefined when it is damaged or not of a memory of this size: it is a hint only.
export function decodeWorkingSet(bytes: Buffer, memoryBlocks: number): Uint32Array | undefined {
  if (bytes.length < 16 || bytes.toString('latin1', 0, 8) !== workingSetMagic) return undefined;
  const count = bytes.readUInt32LE(8);
  if (count > maxWorkingSetBlocks || bytes.length !== 12 + 4 * count + 4) return undefined;
  const blocks = readNumbers(bytes, 12, count);
  if (!blocks || blocks.some((block) => block >= memoryBlocks)) return undefined;
  return new Set(blocks).size === blocks.length ? blocks : undefined;
}

function writeNumbers(bytes: Buffer, at: number, numbers: Uint32Array): void {
  for (const [index, value] of numbers.entries()) bytes.writeUInt32LE(value, at + 4 * index);
  const end = at + 4 * numbers.length;
  bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end);
}

function readNumbers(bytes: Buffer, at: number, count: number): Uint32Array | undefined {
  const end = at + 4 * count;
  if (bytes.readUInt32LE(end) !== crc32(bytes.subarray(0, end))) return undefined;
  const numbers = new Uint32Array(count);
  for (let index = 0; index < count; index++) numbers[index] = bytes.readUInt32LE(at + 4 * index);
  return numbers;
}
