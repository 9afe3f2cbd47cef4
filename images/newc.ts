// The cpio "newc" archive that the kernel unpacks as its initramfs. The same entries give the same bytes.
const kinds = { directory: 0o040000, file: 0o100000, character: 0o020000 } as const;

export type Entry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | { readonly kind: 'character'; readonly path: string; readonly mode: number; readonly device: [number, number] };

// Paths are relative to the root; a directory comes before what it holds.
export function packNewc(entries: readonly Entry[]): Buffer {
  const records = entries.map((entry, index) => packEntry(entry, index + 1));
  return Buffer.concat([...records, record('TRAILER!!!', 0, 0, 1, Buffer.alloc(0), [0, 0])]);
}

function packEntry(entry: Entry, inode: number): Buffer {
  const content = entry.kind === 'file' ? Buffer.from(entry.content) : Buffer.alloc(0);
  const device = entry.kind === 'character' ? entry.device : ([0, 0] as const);
  const links = entry.kind === 'directory' ? 2 : 1;
  return record(entry.path, inode, kinds[entry.kind] | entry.mode, links, content, device);
}

function record(
  path: string,
  inode: number,
  mode: number,
  links: number,
  content: Buffer,
  device: readonly [number, number],
): Buffer {
  const name = Buffer.from(`${path}\0`);
  const [major, minor] = device;
  const numbers = [inode, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, name.length, 0];
  const head = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([aligned(Buffer.concat([Buffer.from(head), name])), aligned(content)]);
}

function aligned(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
