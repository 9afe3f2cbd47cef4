// A step's result is named by the hash of all it depends on: same inputs, same name, nothing to build.
import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';

export interface Inputs {
  // Files and folders below `root`; folders count with everything in them.
  readonly root: string;
  readonly paths: readonly string[];
  // What does not come from a file of the repository: versions, digests, hashes of other steps.
  readonly values?: readonly string[];
}

export async function hashInputs(inputs: Inputs): Promise<string> {
  const hash = createHash('sha256');
  for (const path of inputs.paths) {
    for (const file of await filesBelow(join(inputs.root, path))) {
      const content = await readFile(file);
      hash.update(`file ${relative(inputs.root, file)} ${content.length}\n`).update(content);
    }
  }
  for (const value of inputs.values ?? []) hash.update(`value ${value.length}\n${value}\n`);
  return hash.digest('hex');
}

// What tools leave beside sources is no input.
const outputs = new Set(['target', 'node_modules', 'gen']);

async function filesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return undefined;
    throw error;
  });
  if (!entries) return [path];
  const below = entries
    .filter((entry) => !(entry.isDirectory() && outputs.has(entry.name)))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((entry) => filesBelow(join(path, entry.name)));
  return (await Promise.all(below)).flat();
}
