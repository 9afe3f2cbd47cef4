import { copyFile, mkdir, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';

// Files where every VMM's uid can read them, whatever the modes of the image cache. They are replaced, never
// written to: a pager of an earlier life may be running from one.
export async function copyBootFiles<Name extends string>(
  dir: string,
  files: Readonly<Record<Name, string>>,
): Promise<Record<Name, string>> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const copies = Object.entries<string>(files).map(async ([name, source]) => {
    const copy = join(dir, basename(source));
    await copyFile(source, `${copy}.new`);
    await rename(`${copy}.new`, copy);
    return [name, copy] as const;
  });
  return Object.fromEntries(await Promise.all(copies)) as Record<Name, string>;
}
