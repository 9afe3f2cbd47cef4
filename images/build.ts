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

async function provide(step: Step, link: string, file: string): Promise<string> {
  const dir = await cache.provide(step);
  await links.point(link, join(dir, file));
  return dir;
}

async function kernel(): Promise<string> {
  const dir = await cache.provide(kernelStep(root));
  for (const file of ['vmlinuz', 'vmlinux']) await links.point(file, join(dir, file));
  return dir;
}

async function boot(): Promise<void> {
  const [agentDir, kernelDir] = await Promise.all([provide(agentStep(root), 'wrenn-agent', 'wrenn-agent'), kernel()]);
  await provide(initramfsStep(root, agentDir, kernelDir), 'initramfs', 'initramfs');
}

async function pager(): Promise<void> {
  const dir = await cache.provide(pagerStep(root));
  for (const file of pagerFiles) await links.point(file, join(dir, file));
}

async function templates(): Promise<void> {
  const built = new Map<string, string>();
  for (const recipe of await readRecipes(join(root, 'images/templates'))) {
    const step = await templateStep(root, recipe, built.get(recipe.base));
    built.set(recipe.name, await provide(step, `templates/${recipe.name}`, ''));
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
