// A template: a root filesystem as an ext4 image, and what the CLI registers about it.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { writeDurably } from '@wrenn/kit/durable-file';
import { runProgram } from '@wrenn/kit/run-program';
import type { Step } from '../cache.ts';
import { makeExt4 } from '../ext4.ts';
import type { Recipe } from '../recipe.ts';
import { busybox, makeBusyboxRoot } from './busybox-root.ts';
import { archiveRoot, bootstrapDebianRoot, extendDebianRoot } from './debian-root.ts';

const MiB = 1024 * 1024;
const rootArchive = 'root.tar.zst'; // For the templates that build on this one.

// `baseDir` is the result of the template that the recipe is based on, if it is based on one.
export async function templateStep(root: string, recipe: Recipe, baseDir: string | undefined): Promise<Step> {
  const isBusybox = recipe.base === 'busybox';
  return {
    name: `template:${recipe.name}`,
    inputs: {
      root,
      paths: [
        `images/templates/${recipe.name}.json`,
        'images/steps/template.ts',
        'images/ext4.ts',
        `images/steps/${isBusybox ? 'busybox' : 'debian'}-root.ts`,
      ],
      values: [...(isBusybox ? [await digestOf(busybox)] : []), ...(baseDir ? [basename(baseDir)] : [])],
    },
    build: async (dir, say) => {
      const tree = join(dir, 'tree');
      await mkdir(tree);
      if (isBusybox) await makeBusyboxRoot(tree);
      else if (baseDir) await extendDebianRoot(tree, join(baseDir, rootArchive), recipe.packages, say);
      else {
        await bootstrapDebianRoot(tree, recipe.packages, say);
        await archiveRoot(tree, join(dir, rootArchive));
      }
      const virtualBytes = imageBytes(await contentBytes(tree));
      if (virtualBytes > recipe.diskBytes)
        throw new Error(`its content needs ${virtualBytes} bytes, diskBytes is less`);
      const image = join(dir, 'rootfs.ext4');
      await makeExt4(tree, image, { virtualBytes, journalMiB: isBusybox ? 4 : 16 });
      await rm(tree, { recursive: true });
      await writeDurably(join(dir, 'manifest.json'), manifest(recipe, await digestOf(image), virtualBytes));
    },
  };
}

// Room for the filesystem's own tables and some headroom, in whole 64 MiB. The file is sparse, so this costs nothing.
export function imageBytes(contentBytes: number): number {
  return Math.ceil((contentBytes * 1.2 + 32 * MiB) / (64 * MiB)) * 64 * MiB;
}

async function contentBytes(tree: string): Promise<number> {
  return Number((await runProgram('du', ['-s', '--block-size=1', tree])).split('\t')[0]);
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MiB }), hash);
  return hash.digest('hex');
}

function manifest(recipe: Recipe, digest: string, virtualBytes: number): string {
  const fields = {
    name: recipe.name,
    description: recipe.description,
    vcpu_count: recipe.vcpuCount,
    memory_bytes: recipe.memoryBytes,
    disk_bytes: recipe.diskBytes,
    default_user: recipe.defaultUser,
    digest: `sha256:${digest}`,
    virtual_bytes: virtualBytes,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}
