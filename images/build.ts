// Builds what a guest starts from, each step cached by the hash of its inputs.
import { join } from 'node:path';
import { Cache, cacheDir, type Step } from './cache.ts';
import { Links } from './links.ts';
import { readRecipes } from './recipe.ts';
import { agentStep } from './steps/agent.ts';
import { initramfsStep } from './steps/initramfs.ts';
import { kernelStep } from './steps/kernel.ts';
import { pagerFiles, pagerStep } from './steps/pager.ts';
import { templateStep } from './steps/template.ts';

const root = join(import.meta.dirname, '..');
const print = (text: string): void => void process.stdout.write(`images: ${text}\n`);
const cache = new Cache(join(cacheDir, 'images'), print);
const links = new Links(join(root, '.build/images'));

// Each of the files is linked to by its own name.
async function provide(step: Step, ...files: readonly string[]): Promise<string> {
  const dir = await cache.provide(step);
  for (const file of files) await links.point(file, join(dir, file));
  return dir;
}

async function boot(): Promise<void> {
  const [agentDir, kernelDir] = await Promise.all([
    provide(agentStep(root), 'wrenn-agent'),
    provide(kernelStep(root), 'vmlinuz', 'vmlinux'),
  ]);
  await provide(initramfsStep(root, agentDir, kernelDir), 'initramfs');
}

async function pager(): Promise<void> {
  await provide(pagerStep(root), ...pagerFiles);
}

async function templates(): Promise<void> {
  const built = new Map<string, string>();
  for (const recipe of await readRecipes(join(root, 'images/templates'))) {
    const step = await templateStep(root, recipe, built.get(recipe.base));
    const dir = await provide(step);
    await links.point(`templates/${recipe.name}`, dir);
    built.set(recipe.name, dir);
  }
  await links.keepOnly('templates', [...built.keys()]);
}

// A branch that fails says so at once; the other still finishes, for the next run to find.
async function branch(work: Promise<void>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    print(error instanceof Error ? error.message : String(error));
    return false;
  }
}

const began = performance.now();
// Cargo keeps one core busy, dpkg the other.
const programs = async (): Promise<boolean[]> => [await branch(boot()), await branch(pager())];
const branches = (await Promise.all([programs(), branch(templates())])).flat();
if (branches.every(Boolean)) print(`ready in ${((performance.now() - began) / 1000).toFixed(1)} s`);
else process.exitCode = 1;
