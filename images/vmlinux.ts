// The kernel inside a bzImage, as the ELF file that a VMM can start without the guest unpacking it first. Offsets are those
// of the x86 boot protocol (Documentation/arch/x86/boot.rst of the kernel).
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';

const magicOfSetup = 'HdrS';
const oldestProtocol = 0x0208; // The first that says where the payload is.
const sectorBytes = 512;

// By what each begins with.
const unpackers: readonly { readonly magic: string; readonly program: string }[] = [
  { magic: '02214c18', program: 'lz4' },
  { magic: '28b52ffd', program: 'zstd' },
  { magic: 'fd377a58', program: 'xz' },
  { magic: '1f8b08', program: 'gzip' },
];

export interface Payload {
  readonly program: string;
  readonly bytes: Buffer;
}

// Throws where it is none, or packed in a way that is not known here.
export function payloadOf(bzImage: Buffer): Payload {
  if (bzImage.length < 0x250 || bzImage.toString('latin1', 0x202, 0x206) !== magicOfSetup)
    throw new Error('the kernel is no bzImage');
  if (bzImage.readUInt16LE(0x206) < oldestProtocol) throw new Error('the kernel does not say where it is packed');
  const setupBytes = (1 + (bzImage.readUInt8(0x1f1) || 4)) * sectorBytes;
  const start = setupBytes + bzImage.readUInt32LE(0x248);
  // The last four bytes tell how large it is unpacked. gzip has those by itself.
  const whole = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c));
  const magic = whole.toString('hex', 0, 4);
  const unpacker = unpackers.find((known) => magic.startsWith(known.magic));
  if (!unpacker) throw new Error(`the kernel is packed in a way that is not known here: it begins with ${magic}`);
  return { program: unpacker.program, bytes: unpacker.program === 'gzip' ? whole : whole.subarray(0, -4) };
}

export async function unpackKernel(bzImage: string, scratch: string, vmlinux: string): Promise<void> {
  const { program, bytes } = payloadOf(await readFile(bzImage));
  const packed = join(scratch, 'packed-kernel');
  await writeFile(packed, bytes);
  await runProgram('sh', ['-c', 'exec "$0" -dc "$1" >"$2"', program, packed, vmlinux], { timeoutMs: 60_000 });
}
