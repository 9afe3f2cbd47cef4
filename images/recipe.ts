// A template's recipe: images/templates/<name>.json. Limits are those of wrenn.scheduler.v1.Template.
import { readFile, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

export interface Recipe {
  readonly name: string;
  readonly description: string;
  // busybox, bookworm (Debian 12 from its packages), or a recipe on bookworm whose packages it has too.
  readonly base: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly defaultUser: string;
  readonly packages: readonly string[];
}

const MiB = 1024 * 1024;
const fields = ['description', 'base', 'vcpuCount', 'memoryBytes', 'diskBytes', 'defaultUser', 'packages'];

// Every recipe of a directory, each after the one it is based on.
export async function readRecipes(dir: string): Promise<Recipe[]> {
  const files = (await readdir(dir)).filter((file) => file.endsWith('.json')).toSorted();
  return inOrder(await Promise.all(files.map((file) => readRecipe(join(dir, file)))));
}

export function inOrder(recipes: readonly Recipe[]): Recipe[] {
  const roots = recipes.filter(({ base }) => base === 'busybox' || base === 'bookworm');
  const extended = recipes.filter((recipe) => !roots.includes(recipe));
  const bases = new Set(roots.filter(({ base }) => base === 'bookworm').map(({ name }) => name));
  for (const { name, base } of extended)
    if (!bases.has(base)) throw new Error(`${name}: base is busybox, bookworm or a recipe on bookworm, not ${base}`);
  return [...roots, ...extended];
}

async function readRecipe(path: string): Promise<Recipe> {
  try {
    return parseRecipe(basename(path, '.json'), await readFile(path, 'utf8'));
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

// Reports everything wrong with a recipe at once.
export function parseRecipe(name: string, text: string): Recipe {
  const raw = JSON.parse(text) as Record<string, unknown>;
  const wrong: string[] = [];
  const hold = (holds: boolean, rule: string): void => {
    if (!holds) wrong.push(rule);
  };
  hold(isName(name), 'the name has 1 to 63 characters [a-z0-9-] and starts with a letter');
  for (const key of Object.keys(raw)) hold(fields.includes(key), `${key} is not a field`);
  const { description, base, vcpuCount, memoryBytes, diskBytes, defaultUser, packages } = raw;
  hold(typeof description === 'string' && description !== '', 'description is a text');
  hold(isName(base), 'base is busybox, bookworm or the name of a recipe');
  hold(isWhole(vcpuCount, 1) && vcpuCount >= 1 && vcpuCount <= 32, 'vcpuCount is 1 to 32');
  hold(
    isWhole(memoryBytes, 2 * MiB) && memoryBytes >= 64 * MiB && memoryBytes <= 65_536 * MiB,
    'memoryBytes is 64 MiB to 64 GiB, a multiple of 2 MiB',
  );
  hold(isWhole(diskBytes, MiB) && diskBytes > 0, 'diskBytes is a multiple of 1 MiB');
  hold(defaultUser === 'root' || defaultUser === 'user', 'defaultUser is root or user');
  hold(Array.isArray(packages) && packages.every(isPackageName), 'packages is a list of Debian package names');
  hold(base !== 'busybox' || (Array.isArray(packages) && packages.length === 0), 'busybox takes no packages');
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return { name, ...(raw as unknown as Omit<Recipe, 'name'>) };
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && /^[a-z][a-z0-9-]{0,62}$/.test(value);
}

function isWhole(value: unknown, unit: number): value is number {
  return Number.isSafeInteger(value) && (value as number) % unit === 0;
}

function isPackageName(value: unknown): boolean {
  return typeof value === 'string' && /^[a-z0-9][a-z0-9+.-]+$/.test(value);
}
